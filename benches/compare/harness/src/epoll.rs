//! epoll with timeouts in nanoseconds, always edge-triggered.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// The readiness of a connection.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed, and the new descriptor has no other owner.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 512] })
    }

    pub fn add(&self, socket: &impl AsRawFd, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` lives over the call.
        let done = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The connections that became ready within the timeout.
    pub fn wait(&mut self, timeout: Duration) -> impl Iterator<Item = Ready> + use<'_> {
        let timeout =
            libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        // SAFETY: the kernel writes at most `events.len()` events; the timeout lives over the call and a null
        // signal mask is allowed.
        let count = unsafe {
            libc::epoll_pwait2(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                &timeout,
                std::ptr::null(),
            )
        };
        self.events[..count.max(0) as usize].iter().map(|event| {
            let flags = event.events as i32;
            let ended = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
            Ready {
                token: event.u64,
                readable: flags & (libc::EPOLLIN | ended) != 0,
                writable: flags & libc::EPOLLOUT != 0,
            }
        })
    }
}

/// Removes the 50 us of slack that the kernel adds to this thread's timeouts.
pub fn sharpen_timers() {
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}
