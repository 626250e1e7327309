//! The dispatches that were answered last.

use crate::broker::event::DispatchEvent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A dispatch that was answered, for people and programs.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Dispatch {
    /// Counts them; gaps are dispatches that were not remembered.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The core that its supervisor is connected to.
    pub worker: usize,
    /// `hit`, `miss` or `unconfirmed`.
    pub outcome: &'static str,
    /// Why it missed.
    pub reason: Option<&'static str>,
    /// Who waited instead, as far as it was known a moment later.
    pub closest: Option<String>,
    /// The run's friendly id.
    pub run: Option<String>,
    /// Its deployment; `None` if it was not looked up.
    pub deployment: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// vCPUs.
    pub cpu: Option<f64>,
    /// GB.
    pub memory: Option<f64>,
    /// From its last byte to its answer.
    pub took_us: u64,
    /// Runners that were offered it.
    pub attempts: u8,
    /// The supervisor's trace.
    pub traceparent: Option<String>,
}

impl Dispatch {
    /// What a worker told of, `age` ago.
    pub fn new(worker: usize, age: Duration, event: &DispatchEvent) -> Dispatch {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = event.key.as_ref().map(|key| key.as_ref());
        Dispatch {
            seq: 0,
            at_ms: now.saturating_sub(age).as_millis() as u64,
            worker,
            outcome: event.outcome.name(),
            reason: event.outcome.reason(),
            closest: None,
            run: event.origin.run.as_deref().map(str::to_owned),
            deployment: key.map(|key| key.redacted_deployment().to_owned()),
            version: key.map(|key| key.version.to_owned()),
            cpu: key.map(|key| key.cpu.get()),
            memory: key.map(|key| key.memory.get()),
            took_us: event.took_us,
            attempts: event.attempts,
            traceparent: event.origin.traceparent.as_deref().map(str::to_owned),
        }
    }
}

/// The last of them, as many as are wanted.
#[derive(Debug)]
pub struct Recent {
    ring: VecDeque<Arc<Dispatch>>,
    dispatches_max: usize,
    next: u64,
}

impl Recent {
    /// None yet.
    pub fn new(dispatches_max: usize) -> Recent {
        Recent { ring: VecDeque::new(), dispatches_max, next: 1 }
    }

    /// Remembers one more; the oldest goes.
    pub fn push(&mut self, dispatch: Dispatch) {
        if self.ring.len() >= self.dispatches_max {
            self.ring.pop_front();
        }
        self.ring.push_back(Arc::new(Dispatch { seq: self.next, ..dispatch }));
        self.next += 1;
    }

    /// Those after number `after`, the oldest first.
    pub fn after(&self, after: u64) -> Vec<Arc<Dispatch>> {
        let from = self.ring.partition_point(|dispatch| dispatch.seq <= after);
        self.ring.range(from..).cloned().collect()
    }

    /// The number of the last; 0 before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::event::{ColdReason, DispatchId, Origin, Outcome};
    use crate::broker::io::{ConnId, Ticket};

    #[test]
    fn the_oldest_goes_and_numbers_go_on() {
        let id =
            DispatchId { home: 0, ticket: Ticket { conn: ConnId { slot: 0, generation: 0 }, request: 0 } };
        let event = DispatchEvent {
            id,
            key: None,
            outcome: Outcome::Cold(ColdReason::KeyLimit),
            took_us: 7,
            attempts: 0,
            origin: Origin::default(),
        };
        let mut recent = Recent::new(3);
        for worker in 0..5 {
            recent.push(Dispatch::new(worker, Duration::from_secs(1), &event));
        }
        let seqs = |after| recent.after(after).iter().map(|one| one.seq).collect::<Vec<_>>();
        assert_eq!((seqs(0), seqs(4), seqs(9)), (vec![3, 4, 5], vec![5], vec![]));
        assert_eq!((recent.last(), recent.after(4)[0].reason), (5, Some("key_limit")));
    }
}
