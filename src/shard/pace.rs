//! When a core lets work gather instead of waking for each piece of it.
//!
//! To sleep and be woken costs more than to serve a request. A core to which something comes every
//! few microseconds spends its time on that, unless it comes by less often and serves more at a time:
//! what network cards call interrupt coalescing. A turn then begins no sooner than `coalesce` after
//! the one before it; but only where many turns in a row have followed one another closely, so that
//! a lone request, or a burst of a few, is served at once.

use crate::broker::time::Time;
use std::time::Duration;

/// So many turns in a row, each closely behind the last, make a core busy.
const CLOSE_TURNS: u32 = 16;

/// One core's pace.
#[derive(Debug)]
pub struct Pace {
    coalesce: Duration,
    close_turns: u32,
    turn_at: Time,
}

impl Pace {
    /// Turns of a busy core begin `coalesce` apart; zero: each at once.
    pub fn new(coalesce: Duration) -> Pace {
        Pace { coalesce, close_turns: 0, turn_at: Time::default() }
    }

    /// A turn begins.
    pub fn turn(&mut self, now: Time) {
        let is_close = now - self.turn_at < 2 * self.coalesce;
        self.close_turns = if is_close { self.close_turns.saturating_add(1) } else { 0 };
        self.turn_at = now;
    }

    /// Whether turns follow one another closely.
    pub fn is_busy(&self) -> bool {
        self.close_turns >= CLOSE_TURNS
    }

    /// How long a busy core lets work gather, at `now`, before its next turn.
    pub fn rest(&self, now: Time) -> Duration {
        self.coalesce.saturating_sub(now - self.turn_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_micros(100);

    #[test]
    fn a_burst_is_served_at_once_and_a_stream_in_turns_of_their_distance() {
        let mut pace = Pace::new(COALESCE);
        let mut now = Time::from_ms(5);
        for turn in 0..100 {
            pace.turn(now);
            assert_eq!(pace.is_busy(), turn >= CLOSE_TURNS, "{turn}");
            now = now.plus_us(30);
        }
        assert_eq!(pace.rest(now), Duration::from_micros(70));
        assert_eq!(pace.rest(now.plus_us(200)), Duration::ZERO);
        // Quiet again.
        pace.turn(now.plus_us(200));
        assert!(!pace.is_busy());
    }

    #[test]
    fn without_coalescing_nothing_is_busy() {
        let mut pace = Pace::new(Duration::ZERO);
        for us in 0..1_000 {
            pace.turn(Time(us));
            assert!(!pace.is_busy());
        }
    }
}
