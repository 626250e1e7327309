//! The state of a connection, and its peer.
#![allow(unsafe_code)]

use super::check;
use socket2::SockRef;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

#[derive(Clone, Copy, Debug)]
pub struct TcpState {
    /// Neither reset nor timed out.
    pub alive: bool,
    /// Bytes in the send queue: not sent yet, or sent and not acknowledged.
    pub unacked_bytes: u64,
}

/// A connection's state. The order of the two calls makes the two values consistent. A single TCP_INFO call would
/// not: it reads the state before it takes the socket's lock, and the counts after that. And a reset clears its
/// counts.
pub fn tcp_state(fd: BorrowedFd<'_>) -> io::Result<TcpState> {
    let unacked_bytes = send_queue_bytes(fd)?;
    let alive = SockRef::from(&fd).take_error()?.is_none();
    Ok(TcpState { alive, unacked_bytes })
}

/// Whether the peer's kernel has acknowledged everything that was sent, our FIN included. A reset does not make this
/// true: the kernel compares sequence numbers, not the buffers that a reset empties (`tcp_ioctl` in net/ipv4/tcp.c).
pub fn is_acknowledged(fd: BorrowedFd<'_>) -> bool {
    send_queue_bytes(fd).is_ok_and(|bytes| bytes == 0)
}

/// What TCP_INFO reports in addition to [`TcpState`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpExtras {
    /// Smoothed round trip time, microseconds.
    pub rtt_us: u32,
    /// The peer's FIN has arrived, read or not.
    pub fin: bool,
}

/// The states after a peer's FIN (include/net/tcp_states.h). CLOSE follows a reset too, but then the socket has
/// an error.
const STATES_WITH_FIN: [u8; 4] = [TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING];
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;
const TCP_CLOSING: u8 = 11;

/// What TCP_INFO knows in addition; the default if the kernel no longer knows the connection.
pub fn tcp_extras(fd: BorrowedFd<'_>) -> TcpExtras {
    tcp_info(fd).map_or_else(
        |_| TcpExtras::default(),
        |info| TcpExtras { rtt_us: info.rtt, fin: STATES_WITH_FIN.contains(&info.state) },
    )
}

/// The head of `struct tcp_info` (linux/tcp.h). The kernel fills as many bytes as the caller asks for.
#[repr(C)]
struct TcpInfo {
    state: u8,
    _ca_state_to_options: [u8; 7],
    _rto_to_rcv_ssthresh: [u32; 15],
    rtt: u32,
}

fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut len = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `len` bytes, and the kernel writes at most `len`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    check(result)?;
    // SAFETY: plain integers, zeroed before the call: every bit pattern is a valid value.
    Ok(unsafe { info.assume_init() })
}

/// SIOCOUTQ, tcp(7).
fn send_queue_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) })?;
    Ok(bytes as u64)
}

/// Whether the kernel has bytes that the process has not received (FIONREAD, tcp(7) and unix(7)).
pub fn has_unread(fd: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut bytes) }).is_ok() && bytes > 0
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A peer on the network. An IPv4 address in IPv6 form is given as IPv4.
    Address(IpAddr),
    /// A process on this host, through a Unix domain socket.
    Local,
}

/// getpeername(2); `None` if the connection has ended.
pub fn remote(fd: BorrowedFd<'_>) -> Option<Remote> {
    let addr = SockRef::from(&fd).peer_addr().ok()?;
    match addr.as_socket() {
        Some(addr) => Some(Remote::Address(addr.ip().to_canonical())),
        None => addr.is_unix().then_some(Remote::Local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_layout_matches_the_kernel() {
        assert_eq!(std::mem::offset_of!(TcpInfo, rtt), 68);
    }

    #[test]
    fn unsent_bytes_count_as_unacknowledged() {
        let (client, mut server) = pair();
        server.write_all(b"hello").unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let state = tcp_state(server.as_fd()).unwrap();
        assert!(state.alive);
        assert_eq!(state.unacked_bytes, 0);
        server.set_nonblocking(true).unwrap();
        let chunk = vec![0u8; 1 << 20];
        while server.write(&chunk).is_ok() {}
        std::thread::sleep(Duration::from_millis(60));
        assert!(tcp_state(server.as_fd()).unwrap().unacked_bytes > 0, "the window is full");
        drop(client);
    }

    #[test]
    fn only_a_clean_close_leaves_a_connection_alive() {
        let (client, mut server) = pair();
        server.write_all(b"unread").unwrap();
        drop(client);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!tcp_state(server.as_fd()).unwrap().alive);

        let (client, server) = pair();
        assert!(!tcp_extras(server.as_fd()).fin);
        client.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(tcp_state(server.as_fd()).unwrap().alive);
        assert!(tcp_extras(server.as_fd()).fin);
    }

    #[test]
    fn a_reset_acknowledges_nothing() {
        let (client, mut server) = pair();
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 1 << 16]).is_ok() {}
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!is_acknowledged(server.as_fd()));
        let state = tcp_state(server.as_fd()).unwrap();
        assert!(!state.alive && state.unacked_bytes > 0, "{state:?}");
    }
}
