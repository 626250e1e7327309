//! SIGHUP: reads token secrets and TLS certificates again. A file that cannot be used changes nothing.

use super::startup::warn_of_secrets;
use crate::broker::report::Command;
use crate::config::{SecretSource, TlsConfig, load_secrets};
use crate::control::state::{ControlState, Reporter};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{debug, error, info, warn};

/// Reloads on every SIGHUP.
pub async fn reload_on(
    mut hangup: Signal,
    secrets: Option<SecretSource>,
    identities: TlsConfig,
    state: Arc<ControlState>,
) {
    while hangup.recv().await.is_some() {
        reload_certificates(&identities);
        match (&secrets, state.reporter()) {
            (Some(SecretSource::File(path)), Ok(reporter)) => reload_secrets(path, reporter).await,
            (Some(SecretSource::Variable(name)), _) => warn!(
                "SIGHUP: the token secret comes from {name}, which cannot change while the process runs. Use --token-secret-file.",
            ),
            _ if identities.identities().next().is_some() => {}
            _ => debug!("SIGHUP: there is nothing to reload"),
        }
    }
}

/// Open connections keep their certificate. New ones get the new certificate.
fn reload_certificates(identities: &TlsConfig) {
    for (flag, identity) in identities.identities() {
        match identity.reload() {
            Ok(()) => {
                info!(cert = %identity.files().cert.display(), "{flag}: certificate and key read again")
            }
            Err(error) => error!("{flag}: {error}; certificate and key stay as they were"),
        }
    }
}

async fn reload_secrets(path: &Path, reporter: &Reporter) {
    let loaded = match load_secrets(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            return error!("--token-secret-file {}: {error}; the secrets stay as they were", path.display());
        }
    };
    warn_of_secrets(&loaded.warnings);
    let count = loaded.secrets.len();
    let stalled = reporter.command(Command::TokenSecrets(loaded.secrets)).await.stalled();
    if !stalled.is_empty() {
        warn!(workers = ?stalled, "these workers do not answer: they use the new token secrets when they run again");
    }
    info!(secrets = count, "token secrets read again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake_workers::{Behaviour, FakeWorkers};
    use std::fs;

    #[tokio::test]
    async fn a_file_that_cannot_be_used_changes_nothing() {
        let path = std::env::temp_dir().join(format!("pilotlight-secrets-{}", std::process::id()));
        let workers = Arc::new(FakeWorkers::new(&[Behaviour::Answers]));
        let reporter = Reporter::new(workers.clone());
        for bad in [&b""[..], b"\n\r\n", b" a secret with a blank before it\n"] {
            fs::write(&path, bad).unwrap();
            reload_secrets(&path, &reporter).await;
            assert_eq!(workers.secrets().len(), 0, "{}", bad.escape_ascii());
        }
        fs::write(&path, "0123456789abcdef0123456789abcdef\r\n\nanother\n").unwrap();
        reload_secrets(&path, &reporter).await;
        assert_eq!(workers.secrets().len(), 2);
        fs::remove_file(&path).unwrap();
        reload_secrets(&path, &reporter).await;
        assert_eq!(workers.secrets().len(), 2);
    }
}
