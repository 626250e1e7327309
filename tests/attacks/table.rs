//! What every attack came to, as a table: on the terminal, and in docs/security.md.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// One outcome. Counts only: times are the business of the benchmarks.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the attack in the list.
    pub place: usize,
    pub what: &'static str,
    pub flags: &'static str,
    /// What the attacker got.
    pub came_to: String,
    /// Runs that honest runners got, each its own.
    pub runs: usize,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Puts one more row into the table.
pub fn record(row: Row) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

fn sorted() -> Vec<Row> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rows.sort_by_key(|row| row.place);
    rows
}

/// The table, an attack a paragraph.
pub fn plain() -> String {
    let mut out = String::new();
    for Row { what, flags, came_to, runs, .. } in sorted() {
        let _ =
            writeln!(out, "\n{what}\n  with      {flags}\n  came to   {came_to}\n  honest    {runs} runs");
    }
    out
}

/// The table for people who read documents. Without the count of runs, which differs from run to run.
pub fn markdown() -> String {
    let mut out = String::from("| attack | flags that matter | what came of it |\n| --- | --- | --- |\n");
    for Row { what, flags, came_to, .. } in sorted() {
        let flags = if flags.is_empty() { String::new() } else { format!("`{flags}`") };
        let _ = writeln!(out, "| {what} | {flags} | {came_to} |");
    }
    out
}
