//! The waker: an eventfd that the ring polls.

use crate::engine::Wake;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Its count only grows: each write is a new event for a multishot poll, so nobody need read it, and
/// it takes centuries to fill.
pub struct EventFd(File);

impl EventFd {
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        Ok(EventFd(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // Fails only if the eventfd is gone, and with it the engine that would be woken.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }
}
