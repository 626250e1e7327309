//! What the data plane asks the kernel of one TCP connection. Linux only; see tcp(7), and for the
//! acknowledgement stamps Documentation/networking/timestamping.rst of the kernel.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A connection's state.
#[derive(Clone, Copy, Debug)]
pub struct TcpState {
    /// Neither reset nor timed out.
    pub alive: bool,
    /// Bytes in the send queue: not sent yet, or sent and not acknowledged.
    pub unacked_bytes: u64,
}

/// The head of `struct tcp_info` (linux/tcp.h), as far as it is needed. The kernel fills as many
/// bytes as it is asked for.
#[repr(C)]
struct TcpInfo {
    state: u8,
    _ca_state_to_options: [u8; 7],
    _rto_to_rcv_ssthresh: [u32; 15],
    rtt: u32,
}

/// The connection's state. It is asked for in this order so that what is unacknowledged and what became of the
/// connection go together. (TCP_INFO would not do in one call: it reads the state before it takes the socket's lock,
/// and the counts after; and a reset empties its counts.)
pub fn tcp_state(fd: BorrowedFd<'_>) -> io::Result<TcpState> {
    let unacked_bytes = send_queue_bytes(fd)?;
    let alive = socket2::SockRef::from(&fd).take_error()?.is_none();
    Ok(TcpState { alive, unacked_bytes })
}

/// Whether the peer's kernel has acknowledged everything that was sent, our FIN included. A reset does not make it so:
/// what counts are sequence numbers, not the buffers that a reset empties (`tcp_ioctl` in net/ipv4/tcp.c).
pub fn is_acknowledged(fd: BorrowedFd<'_>) -> bool {
    send_queue_bytes(fd).is_ok_and(|bytes| bytes == 0)
}

/// What TCP_INFO, tcp(7), knows besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpExtras {
    /// Smoothed round trip time, microseconds.
    pub rtt_us: u32,
    /// The peer's FIN is there, read or not.
    pub fin: bool,
}

/// include/net/tcp_states.h: the states behind a peer's FIN. CLOSE is behind a reset too, which is
/// found by its error.
const STATES_WITH_FIN: [u8; 4] = [TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING];
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;
const TCP_CLOSING: u8 = 11;

/// What TCP_INFO knows besides; nothing of a connection that can't be asked any more.
pub fn tcp_extras(fd: BorrowedFd<'_>) -> TcpExtras {
    tcp_info(fd).map_or_else(
        |_| TcpExtras::default(),
        |info| TcpExtras { rtt_us: info.rtt, fin: STATES_WITH_FIN.contains(&info.state) },
    )
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

/// Bytes have come that nobody has received (FIONREAD, tcp(7) and unix(7)).
pub fn has_unread(fd: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut bytes) }).is_ok() && bytes > 0
}

/// The segment size that sends are cut by (TCP_MAXSEG, tcp(7)).
pub fn segment_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `bytes` is valid for writes of `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw mut bytes).cast(),
            &mut len,
        )
    };
    check(result)?;
    Ok(bytes.max(1) as usize)
}

/// Limits the segments that peers of this listener's connections send and get. A final segment
/// that completes a pair is acknowledged at once instead of after the peer's 40 ms delay, and the
/// pairs can only be counted where segment offload does not merge them: hence a small size.
pub fn limit_segments(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes as libc::c_int)
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Somebody on the network; addresses of IPv4 that are written as IPv6 are given as IPv4.
    Address(IpAddr),
    /// Somebody on this machine, through a Unix domain socket.
    Local,
}

/// getpeername(2); `None` of a connection that is gone already.
pub fn remote(fd: BorrowedFd<'_>) -> Option<Remote> {
    let addr = socket2::SockRef::from(&fd).peer_addr().ok()?;
    match addr.as_socket() {
        Some(addr) => Some(Remote::Address(addr.ip().to_canonical())),
        None => addr.is_unix().then_some(Remote::Local),
    }
}

/// TCP_USER_TIMEOUT, tcp(7): unacknowledged data ends the connection after this.
pub fn set_user_timeout(fd: BorrowedFd<'_>, ms: u32) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms as libc::c_int)
}

const SOF_TIMESTAMPING_SOFTWARE: libc::c_int = 1 << 4;
const SOF_TIMESTAMPING_OPT_ID: libc::c_int = 1 << 7;
const SOF_TIMESTAMPING_TX_ACK: u32 = 1 << 9;
const SOF_TIMESTAMPING_OPT_TSONLY: libc::c_int = 1 << 11;
const SOF_TIMESTAMPING_OPT_ID_TCP: libc::c_int = 1 << 16;

/// Lets [`send_stamped`] report acknowledgements on this connection. Bytes are counted from here
/// (OPT_ID_TCP), so the first stamped byte after this call is byte 0.
pub fn enable_ack_stamps(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = SOF_TIMESTAMPING_SOFTWARE
        | SOF_TIMESTAMPING_OPT_ID
        | SOF_TIMESTAMPING_OPT_TSONLY
        | SOF_TIMESTAMPING_OPT_ID_TCP;
    set_int(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags)
}

/// A control message as the kernel lays it out, with which a `sendmsg` asks for the acknowledgement
/// of the last byte that it takes.
#[repr(C)]
pub struct AckStamp {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    flags: u32,
}

/// The only one there is: it says nothing of the bytes.
pub static ACK_STAMP: AckStamp = AckStamp {
    len: size_of::<usize>() + 2 * size_of::<libc::c_int>() + size_of::<u32>(),
    level: libc::SOL_SOCKET,
    kind: libc::SO_TIMESTAMPING,
    flags: SOF_TIMESTAMPING_TX_ACK,
};

/// The message that sends `part` with an [`ACK_STAMP`].
pub fn stamped_message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is plain data; all-zero is its documented empty value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    // The kernel reads the control part of a message that is sent, and never writes to it.
    message.msg_control = (&raw const ACK_STAMP).cast_mut().cast();
    message.msg_controllen = size_of::<AckStamp>() as _;
    message
}

/// Sends without blocking and asks for the acknowledgement of the last byte taken.
pub fn send_stamped(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = stamped_message(&mut part);
    // SAFETY: the message refers to `bytes`, `part` and a static, all alive; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
const SCM_TSTAMP_ACK: u32 = 2;

/// One message of the error queue.
pub enum ErrorQueue {
    /// The byte with this index, counted from [`enable_ack_stamps`] modulo 2^32, is acknowledged,
    /// and so is every byte before it.
    Acked(u32),
    /// Something else.
    Other,
    /// Nothing more in the queue.
    Empty,
}

/// Room for what comes with one message of the error queue: a timestamp and an extended error.
#[repr(C, align(8))]
pub struct ErrorControl([u8; 256]);

impl Default for ErrorControl {
    fn default() -> Self {
        ErrorControl([0; 256])
    }
}

impl ErrorControl {
    /// The message that receives into it. It has no data part: with OPT_TSONLY none comes.
    pub fn message(&mut self) -> libc::msghdr {
        // SAFETY: msghdr is plain data; all-zero is its documented empty value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = self.0.len() as _;
        message
    }

    /// What the kernel wrote, by the length that it left in `received`.
    pub fn read(&self, received: &libc::msghdr) -> ErrorQueue {
        // SAFETY: msghdr is plain data; all-zero is its documented empty value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = self.0.as_ptr().cast_mut().cast();
        message.msg_controllen = received.msg_controllen.min(self.0.len() as _);
        // SAFETY: the control part is alive, aligned for cmsghdr and initialized; CMSG_FIRSTHDR and
        // CMSG_NXTHDR stay inside it and only read, and a header whose length covers
        // sock_extended_err is followed by one.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&message);
            while !header.is_null() {
                let kind = ((*header).cmsg_level, (*header).cmsg_type);
                let is_error =
                    kind == (libc::SOL_IP, libc::IP_RECVERR) || kind == (libc::SOL_IPV6, libc::IPV6_RECVERR);
                let whole = libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) as usize;
                if is_error && (*header).cmsg_len as usize >= whole {
                    let error = libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned();
                    if error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING && error.ee_info == SCM_TSTAMP_ACK {
                        return ErrorQueue::Acked(error.ee_data);
                    }
                }
                header = libc::CMSG_NXTHDR(&message, header);
            }
        }
        ErrorQueue::Other
    }
}

/// Takes one message from the connection's error queue (recvmsg(2), MSG_ERRQUEUE).
pub fn next_error(fd: BorrowedFd<'_>) -> io::Result<ErrorQueue> {
    let mut control = ErrorControl::default();
    let mut message = control.message();
    // SAFETY: the message has no data part, and its control part is alive and of the given length.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(ErrorQueue::Empty) } else { Err(error) };
    }
    Ok(control.read(&message))
}

fn set_int(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is one int, read during the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    fn the_layout_is_the_kernels() {
        assert_eq!(std::mem::offset_of!(TcpInfo, rtt), 68);
    }

    #[test]
    fn unread_bytes_are_acknowledged_and_unsent_bytes_are_counted() {
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
    fn a_close_with_unread_bytes_is_not_alive_and_a_clean_close_is() {
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
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!is_acknowledged(server.as_fd()));
        let state = tcp_state(server.as_fd()).unwrap();
        assert!(!state.alive && state.unacked_bytes > 0, "{state:?}");
    }

    #[test]
    fn an_acknowledgement_carries_the_index_of_its_last_byte() {
        let (_client, server) = pair();
        enable_ack_stamps(server.as_fd()).unwrap();
        for expected in [4, 9] {
            assert_eq!(send_stamped(server.as_fd(), b"12345").unwrap(), 5);
            let mut acked = None;
            for _ in 0..100 {
                match next_error(server.as_fd()).unwrap() {
                    ErrorQueue::Acked(index) => acked = Some(index),
                    ErrorQueue::Other => {}
                    ErrorQueue::Empty if acked.is_some() => break,
                    ErrorQueue::Empty => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            assert_eq!(acked, Some(expected));
        }
    }
}
