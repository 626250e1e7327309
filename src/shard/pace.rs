//! When a core lets work gather instead of waking for each piece of it.
//!
//! To sleep and be woken costs more than to serve a request. A core to which something comes every
//! few microseconds spends its time on that, unless it comes by less often and serves more at a time:
//! what network cards call interrupt coalescing. So a busy core rests for `coalesce` after a turn,
//! whatever comes; but only where many turns in a row have followed one another closely, so that a
//! lone request, or a burst of a few, is served at once; and not after a turn that took as long as the
//! rest would, for enough has gathered meanwhile.

use crate::broker::time::Time;
use std::time::Duration;

/// So many turns in a row, each closely behind the last, make a core busy.
const CLOSE_TURNS: u32 = 16;
/// One core's pace.
#[derive(Debug)]
pub struct Pace {
    coalesce: Duration,
    close_turns: u32,
    began: Time,
    ended: Time,
}

impl Pace {
    /// A busy core rests for `coalesce`; zero: never.
    pub fn new(coalesce: Duration) -> Pace {
        Pace { coalesce, close_turns: 0, began: Time::default(), ended: Time::default() }
    }

    /// A turn begins.
    pub fn begin(&mut self, now: Time) {
        let is_close = now - self.ended < 2 * self.coalesce;
        self.close_turns = if is_close { self.close_turns.saturating_add(1) } else { 0 };
        self.began = now;
    }

    /// ... and is over.
    pub fn end(&mut self, now: Time) {
        self.ended = now;
    }

    /// How long to rest before the next turn, if at all.
    pub fn rest(&self) -> Option<Duration> {
        let is_busy = self.close_turns >= CLOSE_TURNS;
        (is_busy && self.ended - self.began < self.coalesce).then_some(self.coalesce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_micros(100);

    /// One turn at `at`, `took_us` long; whether a rest follows.
    fn turn(pace: &mut Pace, at: Time, took_us: u64) -> bool {
        pace.begin(at);
        pace.end(at.plus_us(took_us));
        pace.rest().is_some()
    }

    #[test]
    fn a_burst_is_served_at_once_and_a_stream_with_rests() {
        let mut pace = Pace::new(COALESCE);
        let mut now = Time::from_ms(5);
        for count in 0..100 {
            assert_eq!(turn(&mut pace, now, 50), count >= CLOSE_TURNS, "{count}");
            now = now.plus_us(50 + 190);
        }
        assert_eq!(pace.rest(), Some(COALESCE));
        // Quiet again.
        assert!(!turn(&mut pace, now.plus_us(10), 50));
    }

    #[test]
    fn there_is_no_rest_after_a_long_turn() {
        let mut pace = Pace::new(COALESCE);
        let mut now = Time::from_ms(5);
        for _ in 0..100 {
            assert!(!turn(&mut pace, now, 100));
            now = now.plus_us(110);
        }
        assert!(turn(&mut pace, now, 99));
    }

    #[test]
    fn without_coalescing_there_is_no_rest() {
        let mut pace = Pace::new(Duration::ZERO);
        assert!((0..1_000).all(|us| !turn(&mut pace, Time(us), 0)));
    }
}
