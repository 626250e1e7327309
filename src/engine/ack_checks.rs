//! Polls the send queue for acknowledgements, instead of having the kernel announce them.
//!
//! An announcement costs a timestamp, an event and a call that takes it from the error queue. A check of the send
//! queue costs a fraction of that. A peer on the same host has acknowledged by the time the send returns, so one
//! check after the send is enough. A busy worker checks the other peers again in one of its next turns, which is soon
//! enough. Only an idle worker needs the announcement. Network drivers switch between polling and interrupts in the
//! same way.

use crate::broker::io::ConnId;
use std::time::{Duration, Instant};

/// The delay before the first check of a peer that did not acknowledge within the send. A peer on the same network
/// has acknowledged by then. If the peer's next request arrives earlier, the engine checks then.
pub const FIRST_CHECK: Duration = Duration::from_millis(1);
/// The interval between checks of one peer doubles up to this.
const INTERVAL_MAX: Duration = Duration::from_millis(8);

/// The connections whose acknowledgement the engine polls for.
#[derive(Default)]
pub struct AckChecks {
    pending: Vec<AckCheck>,
}

/// An engine that polls for acknowledgements.
pub trait ChecksAcks {
    fn ack_checks(&mut self) -> &mut AckChecks;

    /// Checks one connection and reports what it finds. Returns true if the connection needs no further check.
    fn check_ack(&mut self, conn: ConnId) -> bool;

    /// Checks every connection that is due. Returns how long the engine may wait for the next check.
    fn check_due_acks(&mut self) -> Option<Duration> {
        if self.ack_checks().is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut checks = std::mem::take(self.ack_checks());
        checks.run_due(now, |conn| self.check_ack(conn));
        let next_due = checks.next_due();
        *self.ack_checks() = checks;
        next_due.map(|due| due.saturating_duration_since(now))
    }
}

struct AckCheck {
    conn: ConnId,
    due: Instant,
    interval: Duration,
}

impl AckChecks {
    /// Schedules the first check of `conn` at `due`, and further ones at doubling intervals.
    pub fn add(&mut self, conn: ConnId, due: Instant) {
        self.pending.push(AckCheck { conn, due, interval: FIRST_CHECK });
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn next_due(&self) -> Option<Instant> {
        self.pending.iter().map(|check| check.due).min()
    }

    /// Calls `is_over` for every connection that is due, and removes those for which it returns true.
    fn run_due(&mut self, now: Instant, mut is_over: impl FnMut(ConnId) -> bool) {
        self.pending.retain_mut(|check| {
            if check.due > now {
                return true;
            }
            check.due = now + check.interval;
            check.interval = (check.interval * 2).min(INTERVAL_MAX);
            !is_over(check.conn)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 7, generation: 1 };

    #[test]
    fn a_silent_peer_is_checked_at_doubling_intervals() {
        let begin = Instant::now();
        let mut checks = AckChecks::default();
        checks.add(CONN, begin);
        checks.run_due(begin, |_| false);
        checks.run_due(begin, |_| panic!("not due"));
        let mut at = begin;
        let mut intervals = Vec::new();
        for _ in 0..8 {
            let due = checks.next_due().unwrap();
            intervals.push((due - at).as_millis());
            at = due;
            checks.run_due(at, |conn| conn != CONN);
        }
        assert_eq!(intervals, [1, 2, 4, 8, 8, 8, 8, 8]);
        checks.run_due(checks.next_due().unwrap(), |_| true);
        assert!(checks.is_empty() && checks.next_due().is_none());
    }
}
