//! Decides when a worker delays its next turn, so that work gathers instead of waking it up piece by piece.
//!
//! Blocking and waking up cost more than serving a request. A worker that receives something every few
//! microseconds would spend its time on that. So it runs fewer turns and serves more in each, like interrupt
//! coalescing in network cards. A busy worker sleeps for the coalescing delay after each turn. Requests that
//! arrive meanwhile have to wait, so a worker counts as busy only if its turns use much of a CPU's
//! time. A worker with time to spare serves immediately. No delay follows a turn that took as long as the
//! delay, because enough work has gathered meanwhile. Nor does a delay follow a turn that began long after
//! the last one.

use crate::broker::time::Time;
use std::time::Duration;

/// The fewest turns over which the worker measures its share of a CPU's time.
const TURNS_MIN: u32 = 16;
/// The shortest time over which it measures. Work gathers while another process has the CPU for a millisecond
/// or two. Measured over this time, such work does not make a worker busy.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// The length of a trial, the first measurement with delays. It is short, because requests already pay for the
/// delays.
const TRIAL_MIN: Duration = Duration::from_millis(20);
/// A worker that receives nothing for this long starts again as one with time to spare.
const QUIET: Duration = Duration::from_millis(10);
/// A busy worker stays busy down to this percentage of the share that made it so, because it needs less CPU time with
/// delays.
const STAY_PERCENT: u32 = 80;
/// A worker whose share falls too low in a trial (see [`STAY_PERCENT`]) does not try delays again for this
/// long. Each further trial doubles the time.
const HOLD_OFF_MIN: Duration = Duration::from_secs(4);
const HOLD_OFF_MAX: Duration = Duration::from_secs(64);

/// The state that a worker's share of a CPU's time puts it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// It has time to spare, and serves immediately.
    Spare,
    /// It delays its turns, and the trial is not over.
    Trial,
    /// It delays its turns, and needs to.
    Busy,
}

#[derive(Debug)]
pub struct Pace {
    delay: Duration,
    /// A worker that uses this share of a CPU's time or more is busy.
    from_percent: u32,
    began: Time,
    ended: Time,
    /// The turn began soon after the last had ended.
    follows_closely: bool,
    load: Load,
    /// How long after the last trial the next one must wait; zero if the worker has needed delays since.
    hold_off: Duration,
    held_off_until: Time,
    turns: u32,
    /// Where the current measurement began, and the CPU time that the thread had used by then.
    period: Option<(Time, Duration)>,
}

impl Pace {
    /// A worker that uses `from_percent` of a CPU's time or more delays its turns by `delay`; zero: never.
    pub fn new(delay: Duration, from_percent: u32) -> Pace {
        Pace {
            delay,
            from_percent,
            began: Time::default(),
            ended: Time::default(),
            follows_closely: false,
            load: Load::Spare,
            hold_off: Duration::ZERO,
            held_off_until: Time::default(),
            turns: 0,
            period: None,
        }
    }

    pub fn begin_turn(&mut self, now: Time) {
        let since = now - self.ended;
        self.follows_closely = since < 2 * self.delay;
        if since >= QUIET.max(4 * self.delay) {
            (self.load, self.turns, self.period) = (Load::Spare, 0, None);
        }
        self.began = now;
    }

    /// Returns true if the caller must now call [`Pace::record_cpu_time`].
    pub fn end_turn(&mut self, now: Time) -> bool {
        self.ended = now;
        self.turns = self.turns.saturating_add(1);
        let period_min = if self.load == Load::Trial { TRIAL_MIN } else { PERIOD_MIN };
        !self.delay.is_zero()
            && self.turns >= TURNS_MIN
            && self.period.is_none_or(|(since, _)| now - since >= period_min)
    }

    /// Ends a measurement and begins the next. `cpu`: the CPU time that the thread has used since its start.
    pub fn record_cpu_time(&mut self, cpu: Duration) {
        if let Some((since, cpu_before)) = self.period {
            self.classify(self.ended - since, cpu.saturating_sub(cpu_before));
        }
        (self.turns, self.period) = (0, Some((self.ended, cpu)));
    }

    /// Decides the load from the CPU time that the worker used in a period.
    fn classify(&mut self, period: Duration, used: Duration) {
        let reaches = |percent: u32| 10_000 * used >= period * self.from_percent * percent;
        self.load = match self.load {
            Load::Spare if reaches(100) && self.ended >= self.held_off_until => Load::Trial,
            Load::Spare => Load::Spare,
            _ if reaches(STAY_PERCENT) => {
                self.hold_off = Duration::ZERO;
                Load::Busy
            }
            Load::Trial => {
                self.hold_off = (2 * self.hold_off).clamp(HOLD_OFF_MIN, HOLD_OFF_MAX);
                self.held_off_until = self.ended + self.hold_off;
                Load::Spare
            }
            Load::Busy => Load::Spare,
        };
    }

    /// How long to sleep before the next turn, if at all.
    pub fn coalesce_delay(&self) -> Option<Duration> {
        let delays = self.load != Load::Spare && self.follows_closely && self.ended - self.began < self.delay;
        delays.then_some(self.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_micros(100);
    const FROM_PERCENT: u32 = 50;

    /// A worker with a simulated clock.
    struct Simulated {
        pace: Pace,
        now: Time,
        cpu: Duration,
    }

    impl Simulated {
        fn new(delay: Duration) -> Simulated {
            Simulated {
                pace: Pace::new(delay, FROM_PERCENT),
                now: Time::from_ms(5),
                cpu: Duration::from_secs(1),
            }
        }

        /// Runs `count` turns, one every `every_us`, each of which takes `took_us`. The thread uses `percent` of a
        /// CPU's time. Returns which turns a delay follows.
        fn turns(&mut self, count: usize, every_us: u64, took_us: u64, percent: u32) -> Vec<bool> {
            let turn = |_| {
                self.pace.begin_turn(self.now);
                if self.pace.end_turn(self.now.plus_us(took_us)) {
                    self.pace.record_cpu_time(self.cpu);
                }
                self.now = self.now.plus_us(every_us);
                self.cpu += Duration::from_micros(every_us) * percent / 100;
                self.pace.coalesce_delay().is_some()
            };
            (0..count).map(turn).collect()
        }
    }

    fn all(delayed: &[bool]) -> bool {
        delayed.iter().all(|delayed| *delayed)
    }

    fn any(delayed: &[bool]) -> bool {
        delayed.iter().any(|delayed| *delayed)
    }

    #[test]
    fn a_stream_is_delayed_and_a_burst_is_not() {
        let mut worker = Simulated::new(DELAY);
        assert!(!any(&worker.turns(TURNS_MIN as usize, 150, 50, 100)));
        worker.turns(700, 150, 50, 100);
        assert!(all(&worker.turns(100, 150, 50, 100)));
        assert_eq!(worker.pace.coalesce_delay(), Some(DELAY));
        // After a pause the first turn is not delayed, and the second is.
        worker.now = worker.now.plus_us(2 * DELAY.as_micros() as u64);
        assert_eq!(worker.turns(2, 150, 50, 100), [false, true]);
        worker.now = worker.now.plus_us(QUIET.as_micros() as u64);
        assert!(!any(&worker.turns(TURNS_MIN as usize, 150, 50, 100)));
    }

    #[test]
    fn a_worker_with_time_to_spare_does_not_delay() {
        let mut worker = Simulated::new(DELAY);
        assert!(!any(&worker.turns(1_000, 50, 20, FROM_PERCENT - 1)));
        worker.turns(4_100, 50, 20, FROM_PERCENT);
        let stays = (FROM_PERCENT * STAY_PERCENT).div_ceil(100);
        assert!(all(&worker.turns(100, 50, 20, FROM_PERCENT)));
        assert!(all(&worker.turns(5_000, 50, 20, stays)), "delays save CPU time themselves");
        worker.turns(4_100, 50, 20, stays - 1);
        assert!(!any(&worker.turns(4_000, 50, 20, FROM_PERCENT - 1)));
    }

    #[test]
    fn a_worker_with_a_little_time_to_spare_seldom_delays() {
        let mut worker = Simulated::new(DELAY);
        // It uses just enough CPU time to be busy, and far less with delays.
        let second = |worker: &mut Simulated| {
            let mut delayed_turns = 0;
            let mut delayed = false;
            for _ in 0..10_000 {
                delayed = worker.turns(1, 100, 20, if delayed { 30 } else { FROM_PERCENT })[0];
                delayed_turns += u32::from(delayed);
            }
            delayed_turns
        };
        let delayed: Vec<u32> = (0..64).map(|_| second(&mut worker)).collect();
        assert!(delayed[0] > 0 && delayed[..4].iter().sum::<u32>() < 2_000, "{delayed:?}");
        assert!(delayed.iter().sum::<u32>() < 6_000, "for a hundredth of the time: {delayed:?}");
        let last = delayed.iter().rposition(|&turns| turns > 0).expect("now and then");
        assert!(last > 16, "{delayed:?}");
        // Once it needs delays it keeps them, and the next trial is no longer held off.
        worker.turns(2 * HOLD_OFF_MAX.as_secs() as usize * 10_000, 100, 20, FROM_PERCENT);
        assert!(all(&worker.turns(10_000, 100, 20, FROM_PERCENT)));
        worker.turns(10_000, 100, 20, 10);
        worker.turns(2_000, 100, 20, FROM_PERCENT);
        assert!(all(&worker.turns(100, 100, 20, FROM_PERCENT)));
    }

    #[test]
    fn a_short_disturbance_does_not_make_a_worker_busy() {
        let mut worker = Simulated::new(DELAY);
        for _ in 0..20 {
            assert!(!any(&worker.turns(1_000, 100, 30, FROM_PERCENT - 3)));
            // Four milliseconds of work.
            assert!(!any(&worker.turns(40, 100, 90, 100)));
        }
    }

    #[test]
    fn a_long_turn_is_not_followed_by_a_delay() {
        let mut worker = Simulated::new(DELAY);
        assert!(!any(&worker.turns(800, 150, 100, 100)));
        assert!(any(&worker.turns(1, 150, 99, 100)));
    }

    #[test]
    fn a_delay_of_zero_is_never_used() {
        let mut worker = Simulated::new(Duration::ZERO);
        assert!(!any(&worker.turns(1_000, 1, 0, 100)));
    }
}
