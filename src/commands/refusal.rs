//! A command line that clap refused, in one line that has the form of a [`ConfigError`].

use super::{Cli, output};
use crate::config::ConfigError;
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

const USAGE: u8 = 2;

/// Prints why clap refused `args`. For `--help` and `--version`, prints the text they ask for and succeeds.
pub fn print(error: &clap::Error, args: &[OsString]) -> ExitCode {
    match one_line(error, args) {
        Some(line) => output::to_stderr(&format!("pilotlight: {line}")),
        None => drop(error.print()),
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The message for a value that clap refused; `None` for any other error, which clap prints itself.
pub fn one_line(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let ContextValue::String(arg) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let flag = arg.split([' ', '=']).next().unwrap_or(arg);
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value,
        _ => return None,
    };
    let problem = match error.kind() {
        ErrorKind::ValueValidation => error.source()?.to_string(),
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue)? {
            ContextValue::Strings(valid) => {
                format!("is not a valid choice. Use one of {}.", valid.join(", "))
            }
            _ => return None,
        },
        _ => return None,
    };
    let variable = variable_of(flag, args.get(1)?);
    Some(ConfigError::of_value(flag, variable.as_deref(), OsStr::new(value), &problem).to_string())
}

/// The environment variable of a command's flag.
fn variable_of(flag: &str, command: &OsStr) -> Option<String> {
    let cli = Cli::command();
    let command = cli.find_subcommand(command).unwrap_or(&cli);
    let long = flag.strip_prefix("--")?;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    Some(arg.get_env()?.to_string_lossy().into_owned())
}
