//! SIGHUP: what stands in files that may change is read again. What can't be used changes nothing.

use super::admin::Admin;
use super::tokens;
use crate::config::{SecretSource, TlsConfig};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tracing::{debug, error, info, warn};

/// On every SIGHUP reads token secrets and TLS certificates again.
pub async fn reload_on(
    mut hangup: Signal,
    secrets: Option<SecretSource>,
    identities: TlsConfig,
    admin: Arc<Admin>,
) {
    while hangup.recv().await.is_some() {
        certificates(&identities);
        match (&secrets, admin.reporter()) {
            (Some(SecretSource::File(path)), Ok(reporter)) => tokens::reload(path, reporter).await,
            (Some(SecretSource::Variable(name)), _) => warn!(
                "SIGHUP: the token secret is {name}, which stays what it is while the process runs: a file (--token-secret-file) can be read again",
            ),
            _ if identities.identities().next().is_some() => {}
            _ => debug!("SIGHUP: there is nothing to reload"),
        }
    }
}

/// Connections that are open keep what they began with; the next get the new ones.
fn certificates(identities: &TlsConfig) {
    for (flag, identity) in identities.identities() {
        match identity.reload() {
            Ok(()) => {
                info!(cert = %identity.files().cert.display(), "{flag}: certificate and key read again")
            }
            Err(error) => error!("{flag}: {error}; certificate and key stay as they were"),
        }
    }
}
