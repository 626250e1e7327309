//! When a worker lets work gather instead of waking for each piece of it.
//!
//! To sleep and be woken costs more than to serve a request. A core to which something comes every
//! few microseconds spends its time on that, unless it comes by less often and serves more at a time:
//! what network cards call interrupt coalescing. So a busy worker rests for `coalesce` after a turn,
//! whatever comes. Whoever waits meanwhile pays for it, so a worker is busy only if its turns take much of a
//! processor's time; a worker that has time to spare serves at once. There is no rest after a turn that took
//! as long as one, for enough has gathered meanwhile, and none after one that came long after the last.

use crate::broker::time::Time;
use std::time::Duration;

/// The share of a processor's time is taken of a stretch of so many turns...
const TURNS_MIN: u32 = 16;
/// ... and so long: what gathers while something else has the processor for a millisecond or two makes no worker busy.
const STRETCH_MIN: Duration = Duration::from_millis(100);
/// The first one with rests, whose price is paid meanwhile.
const TRIAL_MIN: Duration = Duration::from_millis(20);
/// A core to which nothing comes for so long starts afresh.
const QUIET: Duration = Duration::from_millis(10);
/// A core that is busy stays so down to this part of the share that made it so, in percent: with rests it
/// needs less time.
const STAY_PERCENT: u32 = 80;
/// A core that rests have brought below that at once had time to spare, if not much. It does not rest again for so
/// long, and twice as long after each such attempt...
const HOLD_OFF_MIN: Duration = Duration::from_secs(4);
/// ... up to this.
const HOLD_OFF_MAX: Duration = Duration::from_secs(64);

/// What a worker's share of a processor's time makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// It has time to spare, and serves at once.
    Spare,
    /// It rests, and has not been judged with rests yet.
    Tried,
    /// It rests, and needs to.
    Busy,
}

/// One core's pace.
#[derive(Debug)]
pub struct Pace {
    coalesce: Duration,
    /// Of a processor's time: from so much on a worker is busy.
    from_percent: u32,
    began: Time,
    ended: Time,
    /// The turn began soon after the last had ended.
    is_close: bool,
    load: Load,
    /// How long the core was held off from rests last; zero if it has needed them since.
    hold_off: Duration,
    held_off_until: Time,
    turns: u32,
    /// Where the stretch began, and what time of a processor the thread had had by then.
    stretch: Option<(Time, Duration)>,
}

impl Pace {
    /// A core that takes `from_percent` of a processor's time or more rests for `coalesce`; zero: never.
    pub fn new(coalesce: Duration, from_percent: u32) -> Pace {
        Pace {
            coalesce,
            from_percent,
            began: Time::default(),
            ended: Time::default(),
            is_close: false,
            load: Load::Spare,
            hold_off: Duration::ZERO,
            held_off_until: Time::default(),
            turns: 0,
            stretch: None,
        }
    }

    /// A turn begins.
    pub fn begin(&mut self, now: Time) {
        let since = now - self.ended;
        self.is_close = since < 2 * self.coalesce;
        if since >= QUIET.max(4 * self.coalesce) {
            (self.load, self.turns, self.stretch) = (Load::Spare, 0, None);
        }
        self.began = now;
    }

    /// ... and is over. True if it is time to tell how much time of a processor the thread has had.
    pub fn end(&mut self, now: Time) -> bool {
        self.ended = now;
        self.turns = self.turns.saturating_add(1);
        let stretch_min = if self.load == Load::Tried { TRIAL_MIN } else { STRETCH_MIN };
        !self.coalesce.is_zero()
            && self.turns >= TURNS_MIN
            && self.stretch.is_none_or(|(since, _)| now - since >= stretch_min)
    }

    /// The thread has had so much time of a processor since it was started.
    pub fn had(&mut self, cpu: Duration) {
        if let Some((since, cpu_before)) = self.stretch {
            self.judge(self.ended - since, cpu.saturating_sub(cpu_before));
        }
        (self.turns, self.stretch) = (0, Some((self.ended, cpu)));
    }

    /// What the time of a processor that the core had in a stretch makes of it.
    fn judge(&mut self, stretch: Duration, had: Duration) {
        let reaches = |percent: u32| 10_000 * had >= stretch * self.from_percent * percent;
        self.load = match self.load {
            Load::Spare if reaches(100) && self.ended >= self.held_off_until => Load::Tried,
            Load::Spare => Load::Spare,
            _ if reaches(STAY_PERCENT) => {
                self.hold_off = Duration::ZERO;
                Load::Busy
            }
            Load::Tried => {
                self.hold_off = (2 * self.hold_off).clamp(HOLD_OFF_MIN, HOLD_OFF_MAX);
                self.held_off_until = self.ended + self.hold_off;
                Load::Spare
            }
            Load::Busy => Load::Spare,
        };
    }

    /// How long to rest before the next turn, if at all.
    pub fn rest(&self) -> Option<Duration> {
        let rests = self.load != Load::Spare && self.is_close && self.ended - self.began < self.coalesce;
        rests.then_some(self.coalesce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_micros(100);
    const FROM_PERCENT: u32 = 50;

    /// A core whose turns come every so many microseconds, take so many, and cost so many percent of the
    /// time in between.
    struct Core {
        pace: Pace,
        now: Time,
        cpu: Duration,
    }

    impl Core {
        fn new(coalesce: Duration) -> Core {
            Core {
                pace: Pace::new(coalesce, FROM_PERCENT),
                now: Time::from_ms(5),
                cpu: Duration::from_secs(1),
            }
        }

        /// Whether a rest follows each of `count` turns.
        fn turns(&mut self, count: usize, every_us: u64, took_us: u64, percent: u32) -> Vec<bool> {
            let turn = |_| {
                self.pace.begin(self.now);
                if self.pace.end(self.now.plus_us(took_us)) {
                    self.pace.had(self.cpu);
                }
                self.now = self.now.plus_us(every_us);
                self.cpu += Duration::from_micros(every_us) * percent / 100;
                self.pace.rest().is_some()
            };
            (0..count).map(turn).collect()
        }
    }

    fn all(rests: &[bool]) -> bool {
        rests.iter().all(|rest| *rest)
    }

    fn any(rests: &[bool]) -> bool {
        rests.iter().any(|rest| *rest)
    }

    #[test]
    fn a_burst_is_served_at_once_and_a_stream_with_rests() {
        let mut index = Core::new(COALESCE);
        assert!(!any(&index.turns(TURNS_MIN as usize, 150, 50, 100)));
        index.turns(700, 150, 50, 100);
        assert!(all(&index.turns(100, 150, 50, 100)));
        assert_eq!(index.pace.rest(), Some(COALESCE));
        // Nothing for a moment: what comes then is not made to wait, and what follows it is.
        index.now = index.now.plus_us(2 * COALESCE.as_micros() as u64);
        assert_eq!(index.turns(2, 150, 50, 100), [false, true]);
        index.now = index.now.plus_us(QUIET.as_micros() as u64);
        assert!(!any(&index.turns(TURNS_MIN as usize, 150, 50, 100)));
    }

    #[test]
    fn whoever_has_time_to_spare_serves_at_once() {
        let mut index = Core::new(COALESCE);
        assert!(!any(&index.turns(1_000, 50, 20, FROM_PERCENT - 1)));
        index.turns(4_100, 50, 20, FROM_PERCENT);
        let stays = (FROM_PERCENT * STAY_PERCENT).div_ceil(100);
        assert!(all(&index.turns(100, 50, 20, FROM_PERCENT)));
        assert!(all(&index.turns(5_000, 50, 20, stays)), "rests save time themselves");
        index.turns(4_100, 50, 20, stays - 1);
        assert!(!any(&index.turns(4_000, 50, 20, FROM_PERCENT - 1)));
    }

    #[test]
    fn a_core_with_a_little_time_to_spare_seldom_rests() {
        let mut index = Core::new(COALESCE);
        // It takes just enough for a rest, and with rests far less.
        let second = |index: &mut Core| {
            let mut rested = 0;
            let mut rests = false;
            for _ in 0..10_000 {
                rests = index.turns(1, 100, 20, if rests { 30 } else { FROM_PERCENT })[0];
                rested += u32::from(rests);
            }
            rested
        };
        let rested: Vec<u32> = (0..64).map(|_| second(&mut index)).collect();
        assert!(rested[0] > 0 && rested[..4].iter().sum::<u32>() < 2_000, "{rested:?}");
        assert!(rested.iter().sum::<u32>() < 6_000, "for a hundredth of the time: {rested:?}");
        let last = rested.iter().rposition(|&rested| rested > 0).expect("now and then");
        assert!(last > 16, "{rested:?}");
        // As soon as it needs them, they come and stay, and that it was held off is forgotten.
        index.turns(2 * HOLD_OFF_MAX.as_secs() as usize * 10_000, 100, 20, FROM_PERCENT);
        assert!(all(&index.turns(10_000, 100, 20, FROM_PERCENT)));
        index.turns(10_000, 100, 20, 10);
        index.turns(2_000, 100, 20, FROM_PERCENT);
        assert!(all(&index.turns(100, 100, 20, FROM_PERCENT)));
    }

    #[test]
    fn what_gathered_in_a_moment_makes_no_core_busy() {
        let mut index = Core::new(COALESCE);
        for _ in 0..20 {
            assert!(!any(&index.turns(1_000, 100, 30, FROM_PERCENT - 3)));
            // Four milliseconds' worth at once.
            assert!(!any(&index.turns(40, 100, 90, 100)));
        }
    }

    #[test]
    fn there_is_no_rest_after_a_long_turn() {
        let mut index = Core::new(COALESCE);
        assert!(!any(&index.turns(800, 150, 100, 100)));
        assert!(any(&index.turns(1, 150, 99, 100)));
    }

    #[test]
    fn without_coalescing_there_is_no_rest() {
        let mut index = Core::new(Duration::ZERO);
        assert!(!any(&index.turns(1_000, 1, 0, 100)));
    }
}
