//! Acknowledgements that are looked for, not announced.
//!
//! To have the kernel announce one costs a stamp, an event and a call that takes it from the error
//! queue. A core that is busy comes by again soon anyway, and to look at the send queue costs a
//! fraction. So it is as with a network card: announced while there is little to do, looked for
//! while there is much.

use crate::broker::io::ConnId;
use std::time::{Duration, Instant};

/// Time enough for a peer on the same machine or network, and for one that sends its next request at
/// once, which is looked at when it comes.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Silent peers are looked at in doubling intervals, up to this.
const INTERVAL_MAX: Duration = Duration::from_millis(8);

/// The connections whose acknowledgement is looked for.
#[derive(Default)]
pub struct Watch {
    looks: Vec<Look>,
}

struct Look {
    conn: ConnId,
    due: Instant,
    interval: Duration,
}

impl Watch {
    /// A response is on its way to `conn`.
    pub fn add(&mut self, conn: ConnId, now: Instant) {
        self.looks.push(Look { conn, due: now + FIRST_LOOK, interval: FIRST_LOOK });
    }

    /// Nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// When to look next.
    pub fn next_due(&self) -> Option<Instant> {
        self.looks.iter().map(|look| look.due).min()
    }

    /// Calls `is_over` for every connection that is due, and forgets those of which it is true.
    pub fn look(&mut self, now: Instant, mut is_over: impl FnMut(ConnId) -> bool) {
        self.looks.retain_mut(|look| {
            if look.due > now {
                return true;
            }
            look.interval = (look.interval * 2).min(INTERVAL_MAX);
            look.due = now + look.interval;
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
        let mut watch = Watch::default();
        watch.add(CONN, begin);
        watch.look(begin, |_| panic!("not due"));
        let mut at = begin;
        let mut intervals = Vec::new();
        for _ in 0..8 {
            let due = watch.next_due().unwrap();
            intervals.push((due - at).as_millis());
            at = due;
            watch.look(at, |conn| conn != CONN);
        }
        assert_eq!(intervals, [1, 2, 4, 8, 8, 8, 8, 8]);
        watch.look(watch.next_due().unwrap(), |_| true);
        assert!(watch.is_empty() && watch.next_due().is_none());
    }
}
