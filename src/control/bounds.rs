//! A line of the log when a bound turns somebody away: at most one per bound and [`QUIET`].

use super::workers::Snapshot;
use crate::broker::counters::Counters;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Between two lines about one bound.
const QUIET: Duration = Duration::from_secs(30);

struct Bound {
    /// What was turned away, and why.
    what: &'static str,
    /// The flag that sets the bound.
    flag: &'static str,
    count: fn(&Counters) -> u64,
    seen: u64,
    told_at: Option<Instant>,
}

/// What has been said of which bound.
pub struct BoundsWatch {
    bounds: Vec<Bound>,
}

const fn bound(what: &'static str, flag: &'static str, count: fn(&Counters) -> u64) -> Bound {
    Bound { what, flag, count, seen: 0, told_at: None }
}

impl BoundsWatch {
    /// Says what is new since it was last said.
    pub fn look(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (bound, count) in self.news(snapshot, now) {
            warn!(count, flag = bound.flag, "{}", bound.what);
        }
    }

    fn news(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<(&Bound, u64)> {
        let mut news = Vec::new();
        for bound in &mut self.bounds {
            let total = snapshot.total(|worker| (bound.count)(&worker.counters));
            let new = total.saturating_sub(bound.seen);
            if new > 0 && bound.told_at.is_none_or(|told| now - told >= QUIET) {
                bound.seen = total;
                bound.told_at = Some(now);
                news.push((&*bound, new));
            }
        }
        news
    }
}

impl Default for BoundsWatch {
    fn default() -> Self {
        BoundsWatch {
            bounds: vec![
                bound("connections closed: as many as may be are open", "--max-connections", |c| {
                    c.refused_connections
                }),
                bound(
                    "connections closed: their address has as many open as it may",
                    "--max-connections-per-address",
                    |c| c.refused_per_address,
                ),
                bound("polls closed: all keys that may be remembered are in use", "--max-keys", |c| {
                    c.refused_keys
                }),
                bound("polls closed: their key has as many as it may", "--max-polls-per-key", |c| {
                    c.refused_per_key
                }),
                bound(
                    "polls closed: their deployment has as many as it may",
                    "--max-polls-per-deployment",
                    |c| c.refused_per_deployment,
                ),
                bound("requests refused: too many bytes are in flight", "--max-buffered", |c| {
                    c.refused_bytes
                }),
                bound(
                    "connections closed: incomplete TLS records take too much memory",
                    "--max-buffered",
                    |c| c.refused_records,
                ),
                bound("dispatches refused: their address may not send any", "--dispatch-allow", |c| {
                    c.dispatches_forbidden
                }),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use super::super::workers::WorkerState;
    use super::*;

    fn snapshot(counters: Counters) -> Snapshot {
        let mut report = report(0, false);
        report.counters = counters;
        Snapshot { workers: vec![WorkerState { report, stalled: false }], with_keys: false }
    }

    #[tokio::test(start_paused = true)]
    async fn each_bound_is_named_once_in_a_while_with_all_that_it_turned_away() {
        let mut watch = BoundsWatch::default();
        let mut said = |counters: Counters, now| {
            let news = watch.news(&snapshot(counters), now);
            news.into_iter().map(|(bound, count)| (bound.flag, count)).collect::<Vec<_>>()
        };
        let start = Instant::now();
        assert_eq!(said(Counters::default(), start), []);
        let counters =
            Counters { refused_connections: 5, refused_per_key: 4, refused_bytes: 1, ..Counters::default() };
        let all = [("--max-connections", 5), ("--max-polls-per-key", 4), ("--max-buffered", 1)];
        assert_eq!(said(counters.clone(), start), all);
        let more = Counters { refused_per_key: 7, ..counters };
        assert_eq!(said(more.clone(), start + QUIET / 2), []);
        assert_eq!(said(more.clone(), start + QUIET), [("--max-polls-per-key", 3)]);
        assert_eq!(said(more, start + 2 * QUIET), []);
    }
}
