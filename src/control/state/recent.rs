//! The most recently answered dispatches.

use crate::api::Dispatch;
use crate::broker::event::DispatchEvent;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts `event`, which `worker` reported `age` ago. The result has no number yet.
pub fn recorded(worker: usize, age: Duration, event: &DispatchEvent) -> Dispatch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let key = event.key.as_ref().map(|key| key.as_ref());
    Dispatch {
        seq: 0,
        at_ms: now.saturating_sub(age).as_millis() as u64,
        worker,
        outcome: event.outcome.name().to_owned(),
        reason: event.outcome.reason().map(str::to_owned),
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

/// At most `dispatches_max` dispatches, numbered from 1.
#[derive(Debug)]
pub struct DispatchLog {
    dispatches: VecDeque<Dispatch>,
    dispatches_max: usize,
    last: u64,
}

impl DispatchLog {
    pub fn new(dispatches_max: usize) -> DispatchLog {
        DispatchLog { dispatches: VecDeque::new(), dispatches_max, last: 0 }
    }

    /// Numbers `dispatch` and adds it. The oldest is dropped if the log is full.
    pub fn push(&mut self, dispatch: Dispatch) {
        if self.dispatches.len() >= self.dispatches_max {
            self.dispatches.pop_front();
        }
        self.last += 1;
        self.dispatches.push_back(Dispatch { seq: self.last, ..dispatch });
    }

    /// The dispatches with a larger number than `after`, oldest first.
    pub fn after(&self, after: u64) -> Vec<Dispatch> {
        let from = self.dispatches.partition_point(|dispatch| dispatch.seq <= after);
        self.dispatches.range(from..).cloned().collect()
    }

    /// The number of the last dispatch; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::event::{ColdReason, DispatchId, Origin, Outcome};
    use crate::broker::io::{ConnId, Ticket};

    #[test]
    fn a_full_log_drops_the_oldest_and_keeps_counting() {
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
        let mut log = DispatchLog::new(3);
        for worker in 0..5 {
            log.push(recorded(worker, Duration::from_secs(1), &event));
        }
        let numbers = |after| log.after(after).iter().map(|dispatch| dispatch.seq).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(4), numbers(9)), (vec![3, 4, 5], vec![5], vec![]));
        assert_eq!((log.last(), log.after(4)[0].reason.as_deref()), (5, Some("key_limit")));
    }
}
