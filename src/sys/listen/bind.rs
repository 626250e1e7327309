//! Binds TCP listeners, whose addresses other sockets may share.

use super::error::ListenError;
use super::side::Side;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// How long to retry an address that is in use because its process was just killed. The kernel ends that process's
/// io_uring operations, and its listeners with them, in the background.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(1);
const IN_USE_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Binds a non-blocking listener. Several sockets may share its address: one per worker, or a predecessor's. With
/// `exclusive` it fails if another process listens there.
pub fn bind(side: Side, addr: SocketAddr, backlog: u32, exclusive: bool) -> Result<TcpListener, ListenError> {
    let bound = || -> io::Result<TcpListener> {
        if exclusive && addr.port() != 0 {
            // SO_REUSEPORT would silently join another process's listener.
            retry_while_in_use(|| socket(addr, false))?;
        }
        let socket = socket(addr, true)?;
        socket.listen(backlog.min(i32::MAX as u32) as i32)?;
        Ok(socket.into())
    };
    bound().map_err(|source| ListenError::new(side, addr, source))
}

/// net.core.somaxconn, the kernel's cap on every listener's backlog; `None` where /proc is not mounted.
pub fn backlog_max() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

fn retry_while_in_use<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < IN_USE_TIMEOUT => {
                thread::sleep(IN_USE_RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

fn socket(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn an_address_is_shared_only_without_exclusive() {
        let first = bind(Side::Runner, any(), 8, true).expect("bound");
        let addr = first.local_addr().expect("bound");
        bind(Side::Runner, addr, 8, false).expect("a second on the same address");
        let error = bind(Side::Admin, addr, 8, true).expect_err("in use");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    }

    #[test]
    fn bind_waits_for_a_listener_that_is_closing() {
        let first = bind(Side::Runner, any(), 8, true).expect("bound");
        let addr = first.local_addr().expect("bound");
        let closing = thread::spawn(move || {
            thread::sleep(10 * IN_USE_RETRY_INTERVAL);
            drop(first);
        });
        bind(Side::Runner, addr, 8, true).expect("free in time");
        closing.join().expect("closed");
    }
}
