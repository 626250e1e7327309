//! When a shutdown may close connections, and when it is complete.

use crate::broker::time::Time;

/// How often to check, after the shutdown time, whether the last deliveries have ended.
const CHECK_AGAIN_MS: u64 = 10;

/// The times of a shutdown.
pub struct ShutdownSchedule {
    /// Before this time, an idle connection stays open if its last response did not announce `Connection:
    /// close`. So the broker closes no connection on which a supervisor's request may be on the way.
    ends_at: Time,
    /// The shutdown completes no earlier than the turn after it began: that turn reports the connections that the
    /// kernel had queued.
    not_before: Time,
    is_complete: bool,
}

impl ShutdownSchedule {
    pub fn new(now: Time, shutdown_us: u64) -> Self {
        let not_before = now.plus_us(1);
        let ends_at = now.plus_us(shutdown_us).max(not_before);
        ShutdownSchedule { ends_at, not_before, is_complete: false }
    }

    /// When to check for progress; `None` once complete. Without open connections there is nothing to wait
    /// for.
    pub fn next_deadline(&self, open_connections: usize) -> Option<Time> {
        let at = if open_connections == 0 { self.not_before } else { self.ends_at };
        (!self.is_complete).then_some(at)
    }

    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The shutdown time is over: close everything that is not being answered or delivered.
    pub fn must_close(&self, now: Time) -> bool {
        now >= self.ends_at
    }

    /// Completes the shutdown if no connection is open; otherwise schedules the next check. Returns whether
    /// it is complete.
    pub fn advance(&mut self, now: Time, open_connections: usize) -> bool {
        if open_connections == 0 {
            self.is_complete = now >= self.not_before;
        }
        if !self.is_complete && now >= self.ends_at {
            self.ends_at = now.plus_ms(CHECK_AGAIN_MS);
        }
        self.is_complete
    }
}
