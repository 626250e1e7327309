//! Acknowledgements that are looked for, not announced.
//!
//! To have the kernel announce one costs a stamp, an event and a call that takes it from the error
//! queue; to look at the send queue costs a fraction. A peer on the same machine has acknowledged by the time that
//! the send is over, so there one look behind it does. Of others a busy worker hears soon enough by coming by again. So
//! only an idle worker has it announced, as with a network card.

use crate::broker::io::ConnId;
use std::time::{Duration, Instant};

/// Time enough for a peer on the same network, and for one that sends its next request at once, which is looked at
/// when it comes.
pub const FIRST_CHECK: Duration = Duration::from_millis(1);
/// Silent peers are looked at in doubling intervals, up to this.
const INTERVAL_MAX: Duration = Duration::from_millis(8);

/// The connections whose acknowledgement is looked for.
#[derive(Default)]
pub struct AckChecks {
    looks: Vec<AckCheck>,
}

/// An engine that looks for acknowledgements.
pub trait ChecksAcks {
    /// What it looks for.
    fn looks(&mut self) -> &mut AckChecks;

    /// AckChecks at one connection, and tells what it finds. True if there is nothing to look for any more.
    fn is_over(&mut self, conn: ConnId) -> bool;

    /// AckChecks at what is due. Answers how long the next look has time.
    fn look(&mut self) -> Option<Duration> {
        if self.looks().is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut looks = std::mem::take(self.looks());
        looks.look(now, |conn| self.is_over(conn));
        let next_due = looks.next_due();
        *self.looks() = looks;
        next_due.map(|due| due.saturating_duration_since(now))
    }
}

struct AckCheck {
    conn: ConnId,
    due: Instant,
    interval: Duration,
}

impl AckChecks {
    /// A response is on its way to `conn`, which is looked at then, and at intervals from then on.
    pub fn add(&mut self, conn: ConnId, due: Instant) {
        self.looks.push(AckCheck { conn, due, interval: FIRST_CHECK });
    }

    fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    fn next_due(&self) -> Option<Instant> {
        self.looks.iter().map(|look| look.due).min()
    }

    /// Calls `is_over` for every connection that is due, and forgets those of which it is true.
    fn look(&mut self, now: Instant, mut is_over: impl FnMut(ConnId) -> bool) {
        self.looks.retain_mut(|look| {
            if look.due > now {
                return true;
            }
            look.due = now + look.interval;
            look.interval = (look.interval * 2).min(INTERVAL_MAX);
            !is_over(look.conn)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { slot: 7, generation: 1 };

    #[test]
    fn a_silent_peer_is_looked_at_in_doubling_intervals_until_it_is_over() {
        let begin = Instant::now();
        let mut looks = AckChecks::default();
        looks.add(CONN, begin);
        looks.look(begin, |_| false);
        looks.look(begin, |_| panic!("not due"));
        let mut at = begin;
        let mut intervals = Vec::new();
        for _ in 0..8 {
            let due = looks.next_due().unwrap();
            intervals.push((due - at).as_millis());
            at = due;
            looks.look(at, |conn| conn != CONN);
        }
        assert_eq!(intervals, [1, 2, 4, 8, 8, 8, 8, 8]);
        looks.look(looks.next_due().unwrap(), |_| true);
        assert!(looks.is_empty() && looks.next_due().is_none());
    }
}
