//! The commands: one file or folder each, with its flags and its run.
//!
//! - [`serve`] is the broker; [`demo`] shows it at work.
//! - [`check`], [`explain`], [`top`], [`cordon`] talk to a running broker, through the one [`client`].
//! - [`bench`] loads a running broker.
//! - [`man`] and [`completions`] describe the flags of all the others.

mod bench;
mod check;
mod client;
mod completions;
mod cordon;
mod demo;
mod explain;
mod failure;
mod man;
mod output;
mod refusal;
mod serve;
#[cfg(test)]
mod tests;
mod top;
mod warm_start;

pub use failure::Failure;

use crate::config::ServeFlags;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Warm starts for self-hosted Trigger.dev
///
/// Pilotlight holds the long polls of idle runners. It hands each run to a runner of the same deployment, version and machine size, which starts it within milliseconds instead of in a new container. Without a command, `pilotlight` does what `pilotlight serve` does.
#[derive(Debug, Parser)]
#[command(name = "pilotlight", version, args_conflicts_with_subcommands = true)]
#[command(after_long_help = serve::EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (also what plain `pilotlight` does)
    #[command(after_long_help = serve::EXAMPLES, max_term_width = 100)]
    Serve(Box<ServeFlags>),
    /// Show the broker at work: a broker, runners and a supervisor on this machine, matches in the terminal
    #[command(after_long_help = demo::EXAMPLES, max_term_width = 100)]
    Demo(demo::DemoFlags),
    /// Test a running broker as a runner, a supervisor and an operator, and say what to fix
    #[command(after_long_help = check::EXAMPLES, max_term_width = 100)]
    Check(check::CheckFlags),
    /// Watch a running broker in the terminal: rates, latency, waiting runners, why runs are cold
    #[command(after_long_help = top::EXAMPLES, max_term_width = 100)]
    Top(top::TopFlags),
    /// Ask a running broker why a run of a deployment would be cold now
    #[command(after_long_help = explain::EXAMPLES, max_term_width = 100)]
    Explain(explain::ExplainFlags),
    /// Stop matching the runners of a node or a deployment, or list the cordons
    #[command(after_long_help = cordon::CORDON_EXAMPLES, max_term_width = 100)]
    Cordon(cordon::CordonFlags),
    /// Match the runners of a cordoned node or deployment again
    #[command(after_long_help = cordon::UNCORDON_EXAMPLES, max_term_width = 100)]
    Uncordon(cordon::UncordonFlags),
    /// Load a running broker with runs at a fixed rate, and measure how long each takes
    #[command(after_long_help = bench::EXAMPLES, max_term_width = 100)]
    Bench(Box<bench::BenchFlags>),
    /// Write the manual pages
    Man(man::ManFlags),
    /// Print completions for a shell
    Completions(completions::CompletionsFlags),
}

/// Runs the command in `args`. Its `--help` documents the exit codes.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = match Cli::try_parse_from(&args) {
        Ok(cli) => cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))),
        Err(error) => return refusal::print(&error, &args),
    };
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Command::Serve(flags) => serve::run(*flags),
            Command::Demo(flags) => demo::run(&flags),
            Command::Check(flags) => check::run(&flags),
            Command::Top(flags) => top::run(&flags),
            Command::Explain(flags) => explain::run(flags),
            Command::Cordon(flags) => cordon::run_cordon(flags),
            Command::Uncordon(flags) => cordon::run_uncordon(flags),
            Command::Bench(flags) => bench::run(&flags),
            Command::Man(flags) => man::run(&flags),
            Command::Completions(flags) => completions::run(&flags),
        }
    }
}
