//! How a command fails: one line on standard error and an exit code.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// A command that failed: the line to print, and the exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    exit_code: u8,
}

impl Failure {
    /// The command is valid and failed: exit code 1.
    pub fn failed(error: impl Display) -> Failure {
        Failure { message: error.to_string(), exit_code: 1 }
    }

    /// A flag, a variable or the machine's limits make the command impossible: exit code 2.
    pub fn usage(error: impl Display) -> Failure {
        Failure { message: error.to_string(), exit_code: 2 }
    }

    /// Any other exit code.
    pub fn with_code(error: impl Error, exit_code: u8) -> Failure {
        Failure { message: error.to_string(), exit_code }
    }

    /// Standard output cannot be written.
    pub fn output(source: io::Error) -> Failure {
        Failure::failed(format!("cannot write to standard output: {source}"))
    }

    /// Prints the line to standard error.
    pub fn print(&self) -> ExitCode {
        super::output::to_stderr(&format!("pilotlight: {}", self.message));
        ExitCode::from(self.exit_code)
    }
}
