//! `pilotlight completions`: a shell's completions on standard output.

use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use std::io::{self, Write};

#[derive(Args, Clone, Debug)]
pub struct CompletionsFlags {
    /// The shell that the completions are for
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub fn run(flags: &CompletionsFlags) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "pilotlight", &mut script);
    io::stdout().write_all(&script).map_err(Failure::output)
}
