//! Socket options of TCP listeners and connections.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Socket options of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Length of the accept queue of each listener; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// TCP_USER_TIMEOUT in milliseconds; 0 keeps the kernel's default. The kernel ends a connection whose peer has
    /// not acknowledged data for this long.
    pub user_timeout_ms: u32,
    /// TCP_KEEPIDLE in seconds.
    pub keepalive_idle_s: u32,
    /// TCP_KEEPINTVL in seconds.
    pub keepalive_interval_s: u32,
    /// TCP_KEEPCNT.
    pub keepalive_count: u32,
}

impl TcpOptions {
    /// Sets the options on a listener. On Linux the connections that it accepts inherit them, so that a new connection
    /// costs no system call for them. `segment_bytes` limits the segments of its connections (TCP_MAXSEG).
    pub fn set_on(&self, listener: &TcpListener, segment_bytes: Option<u32>) -> io::Result<()> {
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(self.keepalive_idle_s.into()))
            .with_interval(Duration::from_secs(self.keepalive_interval_s.into()))
            .with_retries(self.keepalive_count);
        socket.set_tcp_keepalive(&keepalive)?;
        if self.user_timeout_ms > 0 {
            socket.set_tcp_user_timeout(Some(Duration::from_millis(self.user_timeout_ms.into())))?;
        }
        match segment_bytes {
            Some(bytes) => socket.set_tcp_mss(bytes),
            None => Ok(()),
        }
    }
}

/// The segment size by which the kernel cuts sends (TCP_MAXSEG).
pub fn segment_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(SockRef::from(&fd).tcp_mss()?.max(1) as usize)
}
