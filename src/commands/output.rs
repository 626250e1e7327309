//! Printing to the terminal. A closed or full stream is an error to report, never a panic.

use super::Failure;
use std::io::{self, Write};

/// Prints `text` and a line end to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(Failure::output)
}

/// Prints `text` and a line end to standard error. Ignores errors: there is nowhere left to report them.
pub fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `text` without control characters: names come from clients, and a terminal would obey them.
pub fn printable(text: &str) -> String {
    text.chars().map(|next| if next.is_control() && next != '\n' { '\u{fffd}' } else { next }).collect()
}
