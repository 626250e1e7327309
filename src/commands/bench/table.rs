//! The progress line of a load, and the table of its results.

use super::Report;
use super::schedule::Outcome;
use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const BAR: usize = 24;
const SHOWN_EVERY: Duration = Duration::from_millis(250);

/// One line on standard error, rewritten in place. Nothing if standard error is not a terminal.
pub struct Progress {
    on: bool,
    shown: Option<Instant>,
    end: u64,
    warm: u64,
    cold: u64,
    failed: u64,
}

impl Progress {
    pub fn new(end: u64) -> Progress {
        Progress { on: io::stderr().is_terminal(), shown: None, end, warm: 0, cold: 0, failed: 0 }
    }

    /// Counts one answered run.
    pub fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Warm => self.warm += 1,
            Outcome::Cold => self.cold += 1,
            Outcome::Failed => self.failed += 1,
        }
    }

    /// Shows the line if the last update is older than `SHOWN_EVERY`.
    pub fn show(&mut self, dispatched: u64, to_answer: &Histogram<u64>) {
        if self.on && self.shown.is_none_or(|shown| shown.elapsed() > SHOWN_EVERY) {
            self.shown = Some(Instant::now());
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.line(dispatched, to_answer));
        }
    }

    /// Erases the line.
    pub fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, dispatched: u64, to_answer: &Histogram<u64>) -> String {
        let filled = (dispatched as usize * BAR).checked_div(self.end as usize).unwrap_or(BAR);
        format!(
            "[{}{}] {dispatched} of {}: {} warm, {} cold, {} errors, p99 {}",
            "#".repeat(filled),
            "-".repeat(BAR - filled),
            self.end,
            self.warm,
            self.cold,
            self.failed,
            time(to_answer.value_at_quantile(0.99))
        )
    }
}

/// The table of results, as text.
pub fn written(report: &Report) -> String {
    let tally = &report.tally;
    let mut text = format!("\n{:<22}", "from due until");
    for name in ["p50", "p90", "p99", "p99.9", "max"] {
        let _ = write!(text, "{name:>10}");
    }
    for (name, times) in [
        ("the runner has it", &report.to_runner),
        ("the dispatch's answer", &report.to_answer),
        ("it was sent", &report.to_sent),
    ] {
        let _ = write!(text, "\n{name:<22}");
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let shown =
                if times.is_empty() { "-".to_owned() } else { time(times.value_at_quantile(quantile)) };
            let _ = write!(text, "{shown:>10}");
        }
    }
    let percent = |count: u64| 100.0 * count as f64 / tally.dispatched.max(1) as f64;
    let _ = write!(
        text,
        "\n\n{} runs: {} warm ({:.2} %), {} cold ({:.2} %), {} errors",
        tally.dispatched,
        tally.warm,
        percent(tally.warm),
        tally.cold,
        percent(tally.cold),
        tally.failed
    );
    let _ = write!(
        text,
        "\n{} lost (answered true, no runner got it), {} doubled (two runners got it), {} unproved (one got it, answered false)",
        tally.lost, tally.doubled, tally.unproved
    );
    if report.polls_ended > 0 {
        let _ = write!(text, "\n{} polls were closed before their time and sent again", report.polls_ended);
    }
    let _ = write!(text, "\n{}", advice(report));
    text
}

/// A load that sends runs later than this measures itself, not the broker.
const LATE_NS: u64 = 1_000_000;

fn advice(report: &Report) -> &'static str {
    let late = report.to_sent.value_at_quantile(0.99) > LATE_NS;
    match (late, report.tally.cold > report.tally.dispatched / 100) {
        (true, _) => {
            "Many runs were sent late, and the times above include the delay. Either all supervisors were waiting for answers (use more --supervisors), or this machine is too busy to send on time."
        }
        (false, true) => "Cold runs found no waiting runner. Use more --runners or a lower --rate.",
        (false, false) => "The load was sent on time: the times are the broker's and the machine's.",
    }
}

fn time(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{} us", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Tally;
    use super::*;

    fn times(nanos: &[u64]) -> Histogram<u64> {
        let mut times = Histogram::new(3).unwrap();
        nanos.iter().for_each(|nanos| times.record(*nanos).unwrap());
        times
    }

    #[test]
    fn table_shows_the_result_of_every_run() {
        let report = Report {
            tally: Tally { dispatched: 200, warm: 190, cold: 10, unproved: 1, ..Tally::default() },
            to_runner: times(&[250_000, 300_000]),
            to_answer: times(&[350_000, 1_500_000, 2_000_000_000]),
            to_sent: times(&[20_000]),
            polls_ended: 3,
        };
        let text = written(&report);
        for needle in [
            "the runner has it         250 us    300 us",
            "2.00 s",
            "200 runs: 190 warm (95.00 %), 10 cold (5.00 %), 0 errors",
            "0 lost",
            "1 unproved",
            "3 polls were closed before their time",
            "more --runners",
        ] {
            assert!(text.contains(needle), "{needle:?} is not in:\n{text}");
        }
        assert!(advice(&Report { to_sent: times(&[5_000_000]), ..report }).contains("more --supervisors"));
    }

    #[test]
    fn progress_is_a_bar_and_counts() {
        let mut progress = Progress { on: false, ..Progress::new(100) };
        [Outcome::Warm, Outcome::Warm, Outcome::Cold].into_iter().for_each(|outcome| progress.note(outcome));
        let line = progress.line(50, &times(&[400_000]));
        assert_eq!(line, "[############------------] 50 of 100: 2 warm, 1 cold, 0 errors, p99 400 us");
    }
}
