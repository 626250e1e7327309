//! Deployment tokens, as far as they are not the workers': secrets read again, and a word in the log on what is
//! refused or would be.

use super::workers::{Reporter, Snapshot};
use crate::broker::report::{Command, Counters, FaultSample};
use crate::broker::settings::TokenMode;
use crate::config::{TokenConfig, load_secrets};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// Faults are summed up in one line at most this often, however many there are.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

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

/// Says at start what is done, and what is not as it should be.
pub fn announce(config: &TokenConfig) {
    match config.mode {
        TokenMode::Off => debug!("deployment tokens are not verified (--token-mode off)"),
        TokenMode::Log => {
            info!("deployment tokens are verified, and bad ones held all the same (--token-mode log)")
        }
        TokenMode::Enforce => {
            info!("polls without a good deployment token are refused (--token-mode enforce)")
        }
    }
    warnings(&config.warnings);
}

fn warnings(warnings: &[String]) {
    for warning in warnings {
        warn!("token secret: {warning}");
    }
}

/// What can't be used changes nothing: the secrets that were good stay.
pub async fn reload(path: &Path, reporter: &Reporter) {
    let loaded = match load_secrets(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            return error!("--token-secret-file {}: {error}; the secrets stay as they were", path.display());
        }
    };
    warnings(&loaded.warnings);
    let count = loaded.secrets.len();
    let stalled = reporter.command(Command::TokenSecrets(loaded.secrets)).await.stalled();
    if !stalled.is_empty() {
        warn!(?stalled, "these workers will take the new token secrets when they wake up");
    }
    info!(secrets = count, "token secrets read again");
}

/// What has been said about faults.
pub struct Summary {
    mode: TokenMode,
    /// Per reason, what the last line had come to.
    said: [u64; REASONS.len()],
    next: Instant,
}

impl Summary {
    /// Nothing yet.
    pub fn new(mode: TokenMode) -> Self {
        Summary { mode, said: [0; REASONS.len()], next: Instant::now() }
    }

    /// One line on the faults since the last one, if there are any and it is time.
    pub fn say(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        if self.mode == TokenMode::Off || now < self.next {
            return;
        }
        if let Some(faults) = self.take(snapshot) {
            self.next = now + SUMMARY_EVERY;
            let done = match self.mode {
                TokenMode::Enforce => "polls refused",
                _ => "polls held that --token-mode enforce would refuse",
            };
            let sample = snapshot.workers.iter().filter_map(|worker| worker.report.token_fault.as_deref());
            match sample.max_by_key(|sample| sample.at) {
                // What it says of itself may be anything: escaped.
                Some(FaultSample { deployment, node, fault, .. }) => {
                    warn!(?deployment, ?node, "deployment tokens at fault: {done}: {faults}; lately: {fault}")
                }
                None => warn!("deployment tokens at fault: {done}: {faults}"),
            }
        }
    }

    /// `2 bare, 1 expired`: what came since the last call.
    fn take(&mut self, snapshot: &Snapshot) -> Option<String> {
        let mut words = Vec::new();
        for ((reason, count), said) in REASONS.iter().zip(&mut self.said) {
            let total = snapshot.total(|worker| count(&worker.counters));
            let new = total.saturating_sub(std::mem::replace(said, total));
            if new > 0 {
                words.push(format!("{new} {reason}"));
            }
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeWorkers, Manner, report};
    use super::super::workers::WorkerState;
    use super::*;
    use std::fs;
    use std::sync::Arc;

    fn snapshot(counters: Counters) -> Snapshot {
        let mut report = report(0, false);
        report.counters = counters;
        Snapshot { workers: vec![WorkerState { report, stalled: false }], with_keys: false }
    }

    #[test]
    fn only_what_is_new_is_said() {
        let mut summary = Summary::new(TokenMode::Log);
        assert_eq!(summary.take(&snapshot(Counters::default())), None);
        let some = Counters { token_bare: 2, token_expired: 1, ..Counters::default() };
        assert_eq!(summary.take(&snapshot(some.clone())).as_deref(), Some("2 bare, 1 expired"));
        assert_eq!(summary.take(&snapshot(some.clone())), None);
        let more = Counters { token_version: 7, ..some };
        assert_eq!(summary.take(&snapshot(more)).as_deref(), Some("7 version"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_changes_nothing() {
        let path = std::env::temp_dir().join(format!("pilotlight-secrets-{}", std::process::id()));
        let workers = Arc::new(FakeWorkers::new(&[Manner::Answers]));
        let reporter = Reporter::new(workers.clone());
        for bad in [&b""[..], b"\n\r\n", b" a secret with a blank before it\n"] {
            fs::write(&path, bad).unwrap();
            reload(&path, &reporter).await;
            assert_eq!(workers.secrets().len(), 0, "{}", bad.escape_ascii());
        }
        fs::write(&path, "0123456789abcdef0123456789abcdef\r\n\nanother\n").unwrap();
        reload(&path, &reporter).await;
        assert_eq!(workers.secrets().len(), 2);
        fs::remove_file(&path).unwrap();
        reload(&path, &reporter).await;
        assert_eq!(workers.secrets().len(), 2);
    }
}
