//! Warns in the log when a limit makes the broker refuse something.

use crate::broker::counters::Counters;
use crate::control::state::Snapshot;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Between two warnings about one limit.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

struct Limit {
    /// What the broker refused, and why.
    message: &'static str,
    /// The flag that sets the limit.
    flag: &'static str,
    count: fn(&Counters) -> u64,
    /// The count at the last warning.
    warned_count: u64,
    warned_at: Option<Instant>,
}

/// Keeps what the log has reported about each limit.
pub struct LimitWarnings {
    limits: Vec<Limit>,
}

impl LimitWarnings {
    /// Warns of new refusals, at most once per limit and [`WARNING_INTERVAL`].
    pub fn warn(&mut self, snapshot: &Snapshot) {
        for (limit, count) in self.due(snapshot, Instant::now()) {
            warn!(count, flag = limit.flag, "{}", limit.message);
        }
    }

    fn due(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<(&Limit, u64)> {
        let mut due = Vec::new();
        for limit in &mut self.limits {
            let total = snapshot.total(|worker| (limit.count)(&worker.counters));
            let new = total.saturating_sub(limit.warned_count);
            if new > 0 && limit.warned_at.is_none_or(|warned| now - warned >= WARNING_INTERVAL) {
                limit.warned_count = total;
                limit.warned_at = Some(now);
                due.push((&*limit, new));
            }
        }
        due
    }
}

impl Default for LimitWarnings {
    fn default() -> Self {
        let limit = |message, flag, count| Limit { message, flag, count, warned_count: 0, warned_at: None };
        LimitWarnings {
            limits: vec![
                limit("connections closed: too many are open", "--max-connections", |c| {
                    c.refused_connections
                }),
                limit(
                    "connections closed: too many are open from their address",
                    "--max-connections-per-address",
                    |c| c.refused_per_address,
                ),
                limit("polls closed: too many keys are in use", "--max-keys", |c| c.refused_keys),
                limit("polls closed: too many are held for their key", "--max-polls-per-key", |c| {
                    c.refused_per_key
                }),
                limit(
                    "polls closed: too many are held for their deployment",
                    "--max-polls-per-deployment",
                    |c| c.refused_per_deployment,
                ),
                limit("requests refused: too many bytes are in flight", "--max-buffered", |c| {
                    c.refused_bytes
                }),
                limit(
                    "connections closed: incomplete TLS records take too much memory",
                    "--max-buffered",
                    |c| c.refused_records,
                ),
                limit("dispatches refused: their address may not dispatch", "--dispatch-allow", |c| {
                    c.dispatches_forbidden
                }),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::WorkerState;
    use crate::control::tests::fake_workers::report;

    fn snapshot(counters: Counters) -> Snapshot {
        let mut report = report(0, false);
        report.counters = counters;
        Snapshot { workers: vec![WorkerState { report, stalled: false }], with_keys: false }
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_warns_once_per_interval() {
        let mut warnings = LimitWarnings::default();
        let mut due = |counters: Counters, now| {
            let due = warnings.due(&snapshot(counters), now);
            due.into_iter().map(|(limit, count)| (limit.flag, count)).collect::<Vec<_>>()
        };
        let start = Instant::now();
        assert_eq!(due(Counters::default(), start), []);
        let counters =
            Counters { refused_connections: 5, refused_per_key: 4, refused_bytes: 1, ..Counters::default() };
        let all = [("--max-connections", 5), ("--max-polls-per-key", 4), ("--max-buffered", 1)];
        assert_eq!(due(counters.clone(), start), all);
        let more = Counters { refused_per_key: 7, ..counters };
        assert_eq!(due(more.clone(), start + WARNING_INTERVAL / 2), []);
        assert_eq!(due(more.clone(), start + WARNING_INTERVAL), [("--max-polls-per-key", 3)]);
        assert_eq!(due(more, start + 2 * WARNING_INTERVAL), []);
    }
}
