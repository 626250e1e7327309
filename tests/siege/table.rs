//! The table of the attacks' outcomes, on the terminal and in docs/security.md.

use crate::support::lock;
use std::fmt::Write as _;
use std::sync::Mutex;

/// The outcome of one attack. Counts only; the benchmarks measure times.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the attack in the list.
    pub place: usize,
    pub what: &'static str,
    pub flags: &'static str,
    pub outcome: String,
    /// Runs that honest runners got.
    pub runs: usize,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds a row to the table.
pub fn record(row: Row) {
    lock(&ROWS).push(row);
}

fn sorted() -> Vec<Row> {
    let mut rows = lock(&ROWS).clone();
    rows.sort_by_key(|row| row.place);
    rows
}

/// The table for the terminal: a paragraph for each attack.
pub fn plain() -> String {
    let mut out = String::new();
    for Row { what, flags, outcome, runs, .. } in sorted() {
        let _ =
            writeln!(out, "\n{what}\n  with      {flags}\n  outcome   {outcome}\n  honest    {runs} runs");
    }
    out
}

/// The table for docs/security.md, without the number of runs, which differs from run to run.
pub fn markdown() -> String {
    let mut out = String::from("| attack | flags that matter | what came of it |\n| --- | --- | --- |\n");
    for Row { what, flags, outcome, .. } in sorted() {
        let flags = if flags.is_empty() { String::new() } else { format!("`{flags}`") };
        let _ = writeln!(out, "| {what} | {flags} | {outcome} |");
    }
    out
}
