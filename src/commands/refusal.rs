//! A command line that clap refused, in one line like those of `config`: flag, value, what to do.

use super::output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::process::ExitCode;

const USAGE: u8 = 2;

/// Prints the refusal; or what was asked for (`--help`, `--version`), which is a success.
pub fn print(error: &clap::Error) -> ExitCode {
    match one_line(error) {
        Some(line) => output::to_stderr(&format!("pilotlight: {line}")),
        None => drop(error.print()),
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The refusal of one value; `None` for any other error, which clap explains itself.
pub fn one_line(error: &clap::Error) -> Option<String> {
    let ContextValue::String(arg) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let flag = arg.split([' ', '=']).next().unwrap_or(arg);
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value,
        _ => return None,
    };
    let advice = match error.kind() {
        ErrorKind::ValueValidation => error.source()?.to_string(),
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue)? {
            ContextValue::Strings(valid) => format!("choose one of {}", valid.join(", ")),
            _ => return None,
        },
        _ => return None,
    };
    Some(format!("{flag} {value:?}: {advice}"))
}
