//! What every fault came to, as a table: on the terminal, and in docs/guarantees.md.

use super::{Cores, Mode};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One outcome.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the fault in the list, then of the row in the fault.
    pub place: (usize, usize),
    pub what: String,
    pub mode: Mode,
    pub workers: Cores,
    /// What the supervisor was told.
    pub told: String,
    /// What the runner got.
    pub got: String,
    pub took: String,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Puts one more row into the table.
pub fn record(row: Row) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

/// A time as a person would give it.
pub fn time(took: Duration) -> String {
    match took.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        us @ 10_000..10_000_000 => format!("{} ms", us / 1_000),
        us => format!("{} s", us / 1_000_000),
    }
}

fn sorted() -> Vec<Row> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    rows.sort_by_key(|row| (row.place, row.mode, row.workers));
    rows
}

/// The whole table, one outcome a line.
pub fn plain() -> String {
    let mut out = String::new();
    let mut last = String::new();
    for row in sorted() {
        if row.what != last {
            let _ = writeln!(out, "\n{}", row.what);
            last = row.what.clone();
        }
        let workers = if row.workers == Cores::Two { " 2 workers" } else { "" };
        let mode = format!("{}{workers}", row.mode.name());
        let _ = writeln!(out, "  {mode:14} {:24} {:40} {}", row.told, row.got, row.took);
    }
    out
}

/// What stands in the first column of a Markdown table.
pub fn first_column(markdown: &str) -> Vec<&str> {
    let rows = markdown.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" |").next()).filter(|cell| !cell.starts_with("---")).collect()
}

/// The table for people who read documents: a fault a line, a mode a column.
pub fn markdown() -> String {
    let mut lines: BTreeMap<(usize, usize), (String, BTreeMap<Mode, String>)> = BTreeMap::new();
    for row in sorted().into_iter().filter(|row| row.workers == Cores::One) {
        let line = lines.entry(row.place).or_insert_with(|| (row.what.clone(), BTreeMap::new()));
        let took = if row.took.is_empty() { String::new() } else { format!(", {}", row.took) };
        line.1.insert(row.mode, format!("**{}**{took}; {}", row.told, row.got));
    }
    let mut out = String::from("| fault | `read` | `ack` | `write` |\n| --- | --- | --- | --- |\n");
    for (what, cells) in lines.into_values() {
        let cell = |mode| cells.get(&mode).map_or("", String::as_str);
        let _ =
            writeln!(out, "| {what} | {} | {} | {} |", cell(Mode::Read), cell(Mode::Ack), cell(Mode::Write));
    }
    out
}
