//! Warns in the log of polls with a bad deployment token.

use crate::broker::counters::Counters;
use crate::broker::report::FaultSample;
use crate::broker::settings::TokenMode;
use crate::control::state::Snapshot;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Between two warnings, however many faults there are.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

type Count = (&'static str, fn(&Counters) -> u64);
const REASONS: [Count; 7] = [
    ("bare", |c| c.token_bare),
    ("malformed", |c| c.token_malformed),
    ("algorithm", |c| c.token_algorithm),
    ("signature", |c| c.token_signature),
    ("claims", |c| c.token_claims),
    ("expired", |c| c.token_expired),
    ("version", |c| c.token_version),
];

/// Keeps what the log has reported about token faults.
pub struct TokenFaultWarnings {
    mode: TokenMode,
    /// The counts at the last warning, as in [`REASONS`].
    warned_counts: [u64; REASONS.len()],
    next: Instant,
}

impl TokenFaultWarnings {
    pub fn new(mode: TokenMode) -> Self {
        TokenFaultWarnings { mode, warned_counts: [0; REASONS.len()], next: Instant::now() }
    }

    /// Warns of the faults since the last warning, at most once per [`WARNING_INTERVAL`].
    pub fn warn(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        if self.mode == TokenMode::Off || now < self.next {
            return;
        }
        let Some(faults) = self.new_faults(snapshot) else { return };
        self.next = now + WARNING_INTERVAL;
        let effect = match self.mode {
            TokenMode::Enforce => "polls refused",
            _ => "polls held that --token-mode enforce would refuse",
        };
        let samples = snapshot.workers.iter().filter_map(|worker| worker.report.token_fault.as_deref());
        match samples.max_by_key(|sample| sample.at) {
            // The client chose both names, so they are escaped.
            Some(FaultSample { deployment, node, fault, .. }) => {
                warn!(?deployment, ?node, "bad deployment tokens: {effect}: {faults}; the latest: {fault}")
            }
            None => warn!("bad deployment tokens: {effect}: {faults}"),
        }
    }

    /// `2 bare, 1 expired`: what was counted since the last call.
    fn new_faults(&mut self, snapshot: &Snapshot) -> Option<String> {
        let mut faults = Vec::new();
        for ((reason, count), warned) in REASONS.iter().zip(&mut self.warned_counts) {
            let total = snapshot.total(|worker| count(&worker.counters));
            let new = total.saturating_sub(std::mem::replace(warned, total));
            if new > 0 {
                faults.push(format!("{new} {reason}"));
            }
        }
        (!faults.is_empty()).then(|| faults.join(", "))
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

    #[tokio::test]
    async fn only_new_faults_are_listed() {
        let mut warnings = TokenFaultWarnings::new(TokenMode::Log);
        assert_eq!(warnings.new_faults(&snapshot(Counters::default())), None);
        let some = Counters { token_bare: 2, token_expired: 1, ..Counters::default() };
        assert_eq!(warnings.new_faults(&snapshot(some.clone())).as_deref(), Some("2 bare, 1 expired"));
        assert_eq!(warnings.new_faults(&snapshot(some.clone())), None);
        let more = Counters { token_version: 7, ..some };
        assert_eq!(warnings.new_faults(&snapshot(more)).as_deref(), Some("7 version"));
    }
}
