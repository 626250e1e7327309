//! `pilotlight man`: one manual page per command.

use super::{Cli, Failure};
use crate::config::flags;
use clap::{Args, CommandFactory};
use std::fs;
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub struct ManFlags {
    /// The folder for the manual pages; created if it does not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(flags: &ManFlags) -> Result<(), Failure> {
    let dir = &flags.dir;
    let written = fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(flags::show_advanced(Cli::command()), dir));
    written
        .map_err(|error| Failure::failed(format!("cannot write manual pages to {}: {error}", dir.display())))
}
