//! The service manager.

use std::io;
use tracing::warn;

/// Warns if the service manager did not get a notification. The broker works without it.
pub fn report(notified: io::Result<()>) {
    if let Err(error) = notified {
        warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}
