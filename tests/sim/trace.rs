//! The event log of a run: connections, polls, claims and answers.

use super::net::Us;

pub struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(on: bool) -> Trace {
        Trace { on, lines: Vec::new() }
    }

    pub fn say(&mut self, now: Us, text: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(format!("{:>12.3} ms  {}", now as f64 / 1_000.0, text()));
        }
    }

    pub fn story(&self) -> String {
        self.lines.join("\n")
    }
}
