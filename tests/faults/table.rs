//! The table of the faults' outcomes, on the terminal and in docs/guarantees.md.

use super::support::lock;
use super::{Mode, Workers};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the fault in the list, then of the row in the fault.
    pub place: (usize, usize),
    pub what: String,
    pub mode: Mode,
    pub workers: Workers,
    /// The supervisor's answer.
    pub outcome: String,
    /// What the runner received.
    pub got: String,
    pub took: String,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds a row to the table.
pub fn record(row: Row) {
    lock(&ROWS).push(row);
}

/// A time with two or three significant digits.
pub fn time(took: Duration) -> String {
    match took.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        us @ 10_000..10_000_000 => format!("{} ms", us / 1_000),
        us => format!("{} s", us / 1_000_000),
    }
}

fn sorted() -> Vec<Row> {
    let mut rows = lock(&ROWS).clone();
    rows.sort_by_key(|row| (row.place, row.mode, row.workers));
    rows
}

/// The table for the terminal: one row for each mode and number of workers.
pub fn plain() -> String {
    let mut out = String::new();
    let mut last = String::new();
    for row in sorted() {
        if row.what != last {
            let _ = writeln!(out, "\n{}", row.what);
            last = row.what.clone();
        }
        let workers = if row.workers == Workers::Two { " 2 workers" } else { "" };
        let mode = format!("{}{workers}", row.mode.name());
        let _ = writeln!(out, "  {mode:14} {:24} {:40} {}", row.outcome, row.got, row.took);
    }
    out
}

/// The first column of a Markdown table.
pub fn first_column(markdown: &str) -> Vec<&str> {
    let rows = markdown.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" |").next()).filter(|cell| !cell.starts_with("---")).collect()
}

/// The table for docs/guarantees.md: one row for each fault, one column for each mode.
pub fn markdown() -> String {
    let mut lines: BTreeMap<(usize, usize), (String, BTreeMap<Mode, String>)> = BTreeMap::new();
    for row in sorted().into_iter().filter(|row| row.workers == Workers::One) {
        let line = lines.entry(row.place).or_insert_with(|| (row.what.clone(), BTreeMap::new()));
        let took = if row.took.is_empty() { String::new() } else { format!(", {}", row.took) };
        line.1.insert(row.mode, format!("**{}**{took}; {}", row.outcome, row.got));
    }
    let mut out = String::from("| fault | `read` | `ack` | `write` |\n| --- | --- | --- | --- |\n");
    for (what, cells) in lines.into_values() {
        let cell = |mode| cells.get(&mode).map_or("", String::as_str);
        let _ =
            writeln!(out, "| {what} | {} | {} | {} |", cell(Mode::Read), cell(Mode::Ack), cell(Mode::Write));
    }
    out
}
