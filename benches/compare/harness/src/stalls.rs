//! Stalls: times when the machine took a core from the load or the server, and the dispatches that they delayed.
//!
//! A second set of percentiles leaves these dispatches out. Otherwise random stalls of milliseconds would decide every
//! server's 99th percentile.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::report::Calm;
use crate::schedule::Schedule;

/// A thread that spins, or wakes up by a clock, was stalled if it is this late: something else had its core.
pub const STALL_MIN: Duration = Duration::from_micros(300);
/// A dispatch counts as delayed by a stall if it was due at most this long before the stall. If a server has it for
/// longer, the server is slow itself.
const ON_ITS_WAY_MAX: Duration = Duration::from_millis(1);

/// The number of successive dispatches with one 99th percentile: enough for ten above it, and few enough that most
/// groups contain no unnoticed stall.
const THOUSAND: usize = 1_000;

/// The capacity for stalls of one run.
pub const STALLS: usize = 4096;

/// A time during which a core ran something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub from: Instant,
    pub to: Instant,
}

impl Stall {
    pub fn ending(to: Instant, length: Duration) -> Self {
        Stall { from: to - length, to }
    }

    pub fn length(&self) -> Duration {
        self.to - self.from
    }
}

/// The stalled time between two moments.
pub fn stalled(stalls: &[Stall], from: Instant, to: Instant) -> Duration {
    let within = stalls.iter().map(|stall| stall.to.min(to).saturating_duration_since(stall.from.max(from)));
    within.sum()
}

/// The times during which a due dispatch waits for a stall of either core or for the backlog of one. They are disjoint
/// and in order.
pub struct Shadows(Vec<Stall>);

impl Shadows {
    /// A load of the share `p` of the server's capacity leaves a backlog of `p` times the stall's length. The server
    /// works it off with its free capacity, in `p / (1 - p)` times the length. A backlog that is left when the next
    /// stall begins is worked off after it. A stall is a little longer than its measured length, since the watch
    /// misses its beginning and shorter stalls around it.
    pub fn of(mut stalls: Vec<Stall>, load_share: f64) -> Self {
        let worked_off = |length: Duration| (length + STALL_MIN).mul_f64(load_share / (1.0 - load_share));
        stalls.sort_by_key(|stall| stall.from);
        // Overlapping stalls of both cores are one.
        let mut apart: Vec<Stall> = Vec::with_capacity(stalls.len());
        for stall in stalls {
            match apart.last_mut().filter(|before| stall.from <= before.to) {
                Some(before) => before.to = before.to.max(stall.to),
                None => apart.push(stall),
            }
        }
        let mut shadows: Vec<Stall> = Vec::with_capacity(apart.len());
        for stall in apart {
            let to = stall.to + worked_off(stall.length());
            match shadows.last_mut().filter(|before| stall.from <= before.to) {
                Some(before) => before.to = to + (before.to - stall.from),
                None => shadows.push(Stall { from: stall.from, to }),
            }
        }
        Shadows(shadows)
    }

    /// Whether a stall delayed a dispatch: it was due in the stall's shadow, or was on its way when the stall began.
    pub fn is_delayed(&self, due: Instant, done: Option<Instant>) -> bool {
        let ended = self.0.partition_point(|shadow| shadow.to <= due);
        self.0.get(ended).is_some_and(|shadow| {
            let was_on_its_way =
                || shadow.from - due <= ON_ITS_WAY_MAX && done.is_none_or(|done| done > shadow.from);
            shadow.from <= due || was_on_its_way()
        })
    }
}

/// Finds the stalls of a load that never sleeps, from gaps between its actions.
pub struct Pace {
    last: Instant,
    pub stalls: Vec<Stall>,
}

impl Default for Pace {
    fn default() -> Self {
        // Allocated in advance, not during the run.
        Pace { last: Instant::now(), stalls: Vec::with_capacity(STALLS) }
    }
}

impl Pace {
    /// To be called after each action of the load. An action takes a few microseconds.
    pub fn came(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last);
        if since >= STALL_MIN {
            self.stalls.push(Stall::ending(now, since));
        }
        self.last = now;
    }
}

/// When each counted dispatch first reached its runner and its supervisor.
pub struct Seen {
    first: u64,
    ends: Vec<Ends>,
}

#[derive(Clone, Copy, Default)]
struct Ends {
    delivered: Option<Instant>,
    answered: Option<Instant>,
}

impl Ends {
    /// When it had reached both.
    fn done(self) -> Option<Instant> {
        Some(self.delivered?.max(self.answered?))
    }
}

impl Seen {
    pub fn new(schedule: &Schedule) -> Self {
        let counted = (schedule.end - schedule.first) as usize;
        Seen { first: schedule.first, ends: vec![Ends::default(); counted] }
    }

    pub fn note_delivered(&mut self, run: u64, now: Instant) {
        if let Some(ends) = self.ends_of(run) {
            ends.delivered.get_or_insert(now);
        }
    }

    pub fn note_answered(&mut self, run: u64, now: Instant) {
        if let Some(ends) = self.ends_of(run) {
            ends.answered.get_or_insert(now);
        }
    }

    fn ends_of(&mut self, run: u64) -> Option<&mut Ends> {
        self.ends.get_mut(run.checked_sub(self.first)? as usize)
    }

    /// The latencies that stalls did not delay. (Warm and cold dispatches are counted elsewhere, all of them.)
    pub fn calm(&self, schedule: &Schedule, load: &[Stall], server: &[Stall], load_share: f64) -> Calm {
        let shadows = Shadows::of([load, server].concat(), load_share);
        // The same bounds as for all latencies.
        let empty = || {
            let mut histogram = schedule.to_runner.clone();
            histogram.reset();
            histogram
        };
        let (mut to_runner, mut to_answer) = (empty(), empty());
        let mut left_out = 0;
        let mut in_order = Vec::with_capacity(self.ends.len());
        for (run, ends) in (self.first..).zip(&self.ends) {
            if shadows.is_delayed(schedule.due(run), ends.done()) {
                left_out += 1;
                continue;
            }
            let record = |histogram: &mut Histogram<u64>, at: Option<Instant>| {
                at.into_iter().for_each(|at| histogram.saturating_record(schedule.late_ns(run, at)));
            };
            record(&mut to_runner, ends.delivered);
            record(&mut to_answer, ends.answered);
            in_order.extend(ends.delivered.map(|at| schedule.late_ns(run, at)));
        }
        let (from, to) = (schedule.due(schedule.first), schedule.due(schedule.end));
        Calm {
            left_out,
            server_stalled_ns: stalled(server, from, to).as_nanos() as u64,
            p99s_to_runner_ns: p99_of_each_thousand(in_order),
            to_runner: (&to_runner).into(),
            to_answer: (&to_answer).into(),
        }
    }
}

/// The 99th percentile, the 990th, of each 1,000 successive latencies. The rest after the last 1,000 does not count,
/// unless there are fewer than 1,000.
fn p99_of_each_thousand(mut latencies_ns: Vec<u64>) -> Vec<u64> {
    let whole = latencies_ns.len() / THOUSAND * THOUSAND;
    if whole > 0 {
        latencies_ns.truncate(whole);
    }
    let p99 = |thousand: &mut [u64]| {
        let rank = (thousand.len() * 99).div_ceil(100) - 1;
        *thousand.select_nth_unstable(rank).1
    };
    latencies_ns.chunks_mut(THOUSAND).map(p99).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Outcome;

    /// Times in microseconds since a common start.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, us: u64) -> Instant {
            self.0 + Duration::from_micros(us)
        }

        fn stall(&self, from_us: u64, to_us: u64) -> Stall {
            Stall { from: self.at(from_us), to: self.at(to_us) }
        }

        fn shadows(&self, stalls: &[(u64, u64)], load_share: f64) -> Vec<(u64, u64)> {
            let stalls = stalls.iter().map(|&(from_us, to_us)| self.stall(from_us, to_us)).collect();
            let us = |at: Instant| (at - self.0).as_micros() as u64;
            Shadows::of(stalls, load_share).0.iter().map(|shadow| (us(shadow.from), us(shadow.to))).collect()
        }
    }

    #[test]
    fn stall_delays_dispatches_until_its_backlog_is_gone() {
        let clock = Clock(Instant::now());
        let shadows = Shadows::of(vec![clock.stall(10_000, 12_000)], 0.5);
        let delayed = |due_us, done_us| shadows.is_delayed(clock.at(due_us), Some(clock.at(done_us)));
        assert!(!delayed(9_900, 9_950), "done before it");
        assert!(delayed(9_900, 12_050), "on its way when it began");
        assert!(delayed(10_000, 12_050) && delayed(11_000, 12_100), "due within it");
        assert!(delayed(12_000, 13_000) && delayed(14_299, 14_350), "due while the backlog is worked off");
        assert!(!delayed(14_300, 14_350), "due when that is done");
        assert!(!delayed(14_300, 60_000), "slow, and no stall");
    }

    #[test]
    fn slow_server_is_not_a_stall() {
        let clock = Clock(Instant::now());
        let shadows = Shadows::of(vec![clock.stall(10_000, 12_000)], 0.5);
        for done in [None, Some(clock.at(1_000_000))] {
            assert!(!shadows.is_delayed(clock.at(8_999), done), "it had it for more than a millisecond");
            assert!(shadows.is_delayed(clock.at(9_001), done));
        }
    }

    #[test]
    fn backlog_depends_on_load_and_previous_stall() {
        let clock = Clock(Instant::now());
        assert_eq!(clock.shadows(&[(1_000, 2_000)], 0.0), [(1_000, 2_000)]);
        assert_eq!(clock.shadows(&[(1_000, 2_200)], 0.25), [(1_000, 2_700)]);
        assert_eq!(clock.shadows(&[(1_000, 2_000)], 0.5), [(1_000, 3_300)]);
        assert_eq!(clock.shadows(&[(1_000, 2_000)], 0.75), [(1_000, 5_900)]);
        // The second stall begins when 0.8 ms of the first one's backlog are left.
        assert_eq!(clock.shadows(&[(1_000, 2_000), (2_500, 3_000)], 0.5), [(1_000, 4_600)]);
        assert_eq!(clock.shadows(&[(1_000, 2_000), (3_500, 4_000)], 0.5), [(1_000, 3_300), (3_500, 4_800)]);
    }

    #[test]
    fn stalls_of_both_cores_at_once_count_once() {
        let clock = Clock(Instant::now());
        assert_eq!(clock.shadows(&[(1_500, 2_500), (1_000, 2_000)], 0.5), [(1_000, 4_300)]);
        assert_eq!(clock.shadows(&[(1_000, 3_000), (1_500, 2_000)], 0.5), [(1_000, 5_300)], "one in another");
    }

    #[test]
    fn a_load_that_keeps_its_pace_has_no_stalls() {
        let mut pace = Pace::default();
        let clock = Clock(pace.last);
        [10, 20, 300, 599, 899, 1_100].into_iter().for_each(|us| pace.came(clock.at(us)));
        assert_eq!(pace.stalls, [clock.stall(599, 899)]);
    }

    #[test]
    fn calm_figures_omit_delayed_dispatches() {
        // Dispatch 0 warms up; 1 to 9 are due at 1 to 9 ms.
        let mut schedule = Schedule::new(1_000.0, Duration::from_millis(1), Duration::from_millis(9));
        let mut seen = Seen::new(&schedule);
        let start = schedule.due(0);
        // The server stalls from 3.5 to 4.5 ms and works off the backlog until 5.8; it is slow with 8 and loses 9.
        for (run, late_us) in
            [(0, 700), (1, 50), (2, 50), (3, 50), (4, 600), (5, 100), (6, 60), (7, 50), (8, 5_000)]
        {
            let now = schedule.due(run) + Duration::from_micros(late_us);
            schedule.note_delivered(run, now);
            schedule.note_answered(run, Outcome::Warm, now);
            seen.note_delivered(run, now);
            seen.note_answered(run, now);
        }
        // A run of another process.
        seen.note_delivered(10, start);
        // A second delivery does not count, as in the schedule.
        seen.note_delivered(1, start + Duration::from_secs(1));
        let server = [Stall::ending(start + Duration::from_micros(4_500), Duration::from_millis(1))];
        let load = [Stall::ending(start + Duration::from_micros(4_200), Duration::from_micros(400))];
        let calm = seen.calm(&schedule, &load, &server, 0.5);
        assert_eq!((calm.left_out, calm.server_stalled_ns), (2, 1_000_000));
        assert_eq!((calm.to_runner.count(), schedule.to_runner.len()), (6, 8));
        assert_eq!(calm.to_answer.count(), 6);
        assert_eq!(calm.p99s_to_runner_ns, [5_000_000], "of the same six, in one");
        assert!((5_000_000..5_100_000).contains(&calm.to_runner.max_ns()), "the server itself is slow");
        assert_eq!(schedule.tally().failed, 1, "a failed run always counts");
    }

    #[test]
    fn each_thousand_has_its_99th_percentile() {
        let thousand = |slow: usize| (0..1_000).map(move |at| if at < slow { 9_000 } else { 50 });
        let latencies: Vec<u64> =
            thousand(10).chain(thousand(11)).chain(thousand(0)).chain([7_000; 999]).collect();
        assert_eq!(p99_of_each_thousand(latencies), [50, 9_000, 50]);
        assert_eq!(p99_of_each_thousand((1..=999).collect()), [990], "fewer are one");
        assert_eq!(p99_of_each_thousand(Vec::new()), [0u64; 0]);
    }

    #[test]
    fn stalled_time_is_clipped_to_the_interval() {
        let clock = Clock(Instant::now());
        let stalls = [
            clock.stall(0, 400),
            clock.stall(900, 1_300),
            clock.stall(1_900, 2_500),
            clock.stall(9_000, 9_500),
        ];
        assert_eq!(stalled(&stalls, clock.at(1_000), clock.at(2_000)), Duration::from_micros(300 + 100));
    }
}
