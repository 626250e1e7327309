//! Telling the service manager how we are (sd_notify). Without one these do nothing.

use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// Every listener serves.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// The drain has begun.
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Every worker is well.
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// Within this much time [`alive`] must be said again (WatchdogSec=); None: nobody watches this process.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())
}
