//! The `pilotlight` binary: everything is in [`pilotlight::commands`].

use std::process::ExitCode;

fn main() -> ExitCode {
    pilotlight::commands::run(std::env::args_os())
}
