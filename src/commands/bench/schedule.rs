//! When each run of an open loop is due, and its result. `benches/compare` compiles this file too.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// The longest latency that can be recorded. Longer ones count as this one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant digits of a recorded latency.
const DIGITS: u8 = 3;

/// How a dispatch ended, as the supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered true.
    Warm,
    /// Answered false.
    Cold,
    /// Another status, or the connection ended.
    Failed,
}

/// Runs at a fixed rate that does not depend on the server. Every latency counts from the moment at which its run was
/// due, so it includes the wait behind a stalled server (no coordinated omission).
pub struct Schedule {
    started: Instant,
    interval: Duration,
    /// The first run that counts. Earlier runs are the warm-up.
    pub first: u64,
    /// The number of the last run, plus 1.
    pub end: u64,
    delivered: Vec<u8>,
    outcomes: Vec<Option<Outcome>>,
    /// From due to received by a runner, in nanoseconds.
    pub to_runner: Histogram<u64>,
    /// From due to answered, in nanoseconds.
    pub to_answer: Histogram<u64>,
}

/// The results of the runs that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that were due.
    pub dispatched: u64,
    /// Answered true.
    pub warm: u64,
    /// Answered false.
    pub cold: u64,
    /// Not answered, or with another status.
    pub failed: u64,
    /// Answered true, and no runner got it. Includes the warm-up.
    pub lost: u64,
    /// Received by a runner, and not answered true: started twice, once cold. Includes the warm-up.
    pub unproved: u64,
    /// Received by more than one runner. Includes the warm-up.
    pub doubled: u64,
}

impl Schedule {
    /// `rate` runs per second, from now on.
    pub fn new(rate: f64, warm_up: Duration, time: Duration) -> Self {
        let runs = |time: Duration| (time.as_secs_f64() * rate) as u64;
        let first = runs(warm_up);
        let end = first + runs(time).max(1);
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("bounds that fit");
        Schedule {
            started: Instant::now(),
            interval: Duration::from_secs_f64(1.0 / rate),
            first,
            end,
            delivered: vec![0; end as usize],
            outcomes: vec![None; end as usize],
            to_runner: histogram(),
            to_answer: histogram(),
        }
    }

    /// When `run` must be dispatched.
    pub fn due(&self, run: u64) -> Instant {
        self.started + Duration::from_nanos(self.interval.as_nanos() as u64 * run)
    }

    /// Nanoseconds since `run` was due.
    pub fn late_ns(&self, run: u64, now: Instant) -> u64 {
        now.saturating_duration_since(self.due(run)).as_nanos() as u64
    }

    /// Records that a runner received `run`.
    pub fn note_delivered(&mut self, run: u64, now: Instant) {
        let late_ns = self.late_ns(run, now);
        let Some(times) = self.delivered.get_mut(run as usize) else { return };
        *times = times.saturating_add(1);
        if run >= self.first && *times == 1 {
            self.to_runner.saturating_record(late_ns);
        }
    }

    /// Records the answer to the dispatch of `run`.
    pub fn note_answered(&mut self, run: u64, outcome: Outcome, now: Instant) {
        let late_ns = self.late_ns(run, now);
        let Some(known) = self.outcomes.get_mut(run as usize) else { return };
        *known = Some(outcome);
        if run >= self.first {
            self.to_answer.saturating_record(late_ns);
        }
    }

    /// Every dispatch is answered and every warm run is delivered.
    pub fn is_settled(&self) -> bool {
        let open = |(outcome, delivered): (&Option<Outcome>, &u8)| match outcome {
            None => true,
            Some(Outcome::Warm) => *delivered == 0,
            Some(_) => false,
        };
        // Searches from the end, where the open runs are.
        !self.outcomes.iter().zip(&self.delivered).rev().any(open)
    }

    pub fn tally(&self) -> Tally {
        let counted = &self.outcomes[self.first as usize..];
        let count = |wanted: Option<Outcome>| counted.iter().filter(|found| **found == wanted).count() as u64;
        let all = |wanted: fn(bool, u8) -> bool| {
            let runs = self.outcomes.iter().zip(&self.delivered);
            runs.filter(|(outcome, times)| wanted(**outcome == Some(Outcome::Warm), **times)).count() as u64
        };
        Tally {
            dispatched: self.end - self.first,
            warm: count(Some(Outcome::Warm)),
            cold: count(Some(Outcome::Cold)),
            failed: count(Some(Outcome::Failed)) + count(None),
            lost: all(|warm, times| warm && times == 0),
            unproved: all(|warm, times| !warm && times > 0),
            doubled: all(|_, times| times > 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_due_time() {
        let mut schedule = Schedule::new(1_000.0, Duration::from_millis(2), Duration::from_millis(5));
        assert_eq!((schedule.first, schedule.end), (2, 7));
        let at = |schedule: &Schedule, run, millis| schedule.due(run) + Duration::from_millis(millis);
        // A warm-up run; a warm run; one that a stall delayed; a cold run; a lost run; an unproved run on two runners.
        for (run, outcome, runners, millis) in [
            (0, Outcome::Warm, 1, 1),
            (2, Outcome::Warm, 1, 1),
            (3, Outcome::Warm, 1, 500),
            (4, Outcome::Cold, 0, 1),
            (5, Outcome::Warm, 0, 1),
            (6, Outcome::Cold, 2, 1),
        ] {
            let now = at(&schedule, run, millis);
            (0..runners).for_each(|_| schedule.note_delivered(run, now));
            schedule.note_answered(run, outcome, now);
        }
        assert!(!schedule.is_settled());
        let expected = Tally { dispatched: 5, warm: 3, cold: 2, failed: 0, lost: 1, unproved: 1, doubled: 1 };
        assert_eq!(schedule.tally(), expected);
        assert_eq!(schedule.to_answer.len(), 5);
        assert_eq!(schedule.to_runner.len(), 3);
        assert!(schedule.to_answer.max() >= 500_000_000, "the stall is charged");
        let now = at(&schedule, 5, 2);
        schedule.note_delivered(5, now);
        schedule.note_answered(1, Outcome::Failed, now);
        assert!(schedule.is_settled());
        // Ignores numbers of runs that were never dispatched.
        schedule.note_delivered(7, now);
        schedule.note_answered(7, Outcome::Warm, now);
        assert_eq!(schedule.tally().lost, 0);
    }
}
