//! Telling the service manager how we are (sd_notify). Without one these do nothing.

use sd_notify::NotifyState;
use std::io;

/// Every listener serves.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// The drain has begun.
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}
