//! Notifies the service manager (sd_notify). Without a service manager these functions do nothing.

use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// Reports that every listener accepts connections.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Reports that the shutdown has begun.
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Reports that every worker responds.
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// The time within which the service manager expects the next [`alive`] (WatchdogSec=). `None` if it does not
/// watch this process.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())
}
