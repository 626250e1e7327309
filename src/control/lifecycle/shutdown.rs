//! Parts of the shutdown.

use crate::config::ServeConfig;
use crate::sys::listen::ListenGroup;
use std::time::Duration;
use tokio::time::sleep;
use tracing::info;

/// Handshakes that began before the hand-over end in this process's queue. The broker waits this long for them.
const HANDSHAKE_TIME: Duration = Duration::from_millis(250);
/// How much longer than its configured times a shutdown may take.
const GRACE: Duration = Duration::from_secs(5);

/// Sends new connections on every listener to a successor, if there is one, and waits for the handshakes that had
/// begun. The groups keep their sockets open until they are dropped.
pub async fn hand_over(groups: Vec<ListenGroup>) {
    let steered = groups.iter().filter(|group| group.steer_to_successor()).count();
    if steered > 0 {
        info!("a successor is listening: new connections go to it");
        sleep(HANDSHAKE_TIME).await;
        groups.iter().for_each(ListenGroup::release);
    }
}

/// After this time the workers should have ended.
pub fn time_max(config: &ServeConfig) -> Duration {
    let settings = &config.settings;
    let configured = settings.shutdown_time_ms + settings.dispatch_timeout_ms + settings.write_timeout_ms;
    GRACE + Duration::from_millis(configured)
}
