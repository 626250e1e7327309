//! Timestamps by which the kernel announces acknowledgements in a connection's error queue: see
//! Documentation/networking/timestamping.rst of the kernel.
#![allow(unsafe_code)]

use super::check;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

const SOF_TIMESTAMPING_SOFTWARE: libc::c_int = 1 << 4;
const SOF_TIMESTAMPING_OPT_ID: libc::c_int = 1 << 7;
const SOF_TIMESTAMPING_TX_ACK: u32 = 1 << 9;
const SOF_TIMESTAMPING_OPT_TSONLY: libc::c_int = 1 << 11;
const SOF_TIMESTAMPING_OPT_ID_TCP: libc::c_int = 1 << 16;
const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
const SCM_TSTAMP_ACK: u32 = 2;

/// Enables the announcements for [`send_timestamped`]. The kernel counts bytes from here on (OPT_ID_TCP): the next
/// byte has the index 0.
pub fn enable_ack_timestamps(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = SOF_TIMESTAMPING_SOFTWARE
        | SOF_TIMESTAMPING_OPT_ID
        | SOF_TIMESTAMPING_OPT_TSONLY
        | SOF_TIMESTAMPING_OPT_ID_TCP;
    // SAFETY: the option's value is one int, which the kernel reads during the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}

/// A control message in the kernel's layout. With it a `sendmsg` asks for the acknowledgement of the last byte that
/// the kernel takes.
#[repr(C)]
struct TimestampRequest {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    flags: u32,
}

/// It does not depend on the bytes, so all messages share one.
static TIMESTAMP_REQUEST: TimestampRequest = TimestampRequest {
    len: size_of::<usize>() + 2 * size_of::<libc::c_int>() + size_of::<u32>(),
    level: libc::SOL_SOCKET,
    kind: libc::SO_TIMESTAMPING,
    flags: SOF_TIMESTAMPING_TX_ACK,
};

/// The message that sends `part` and asks for a timestamp.
pub fn timestamped_message(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is plain data; all-zero is its documented empty value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    // The kernel reads the control part of a message that is sent, and never writes to it.
    message.msg_control = (&raw const TIMESTAMP_REQUEST).cast_mut().cast();
    message.msg_controllen = size_of::<TimestampRequest>() as _;
    message
}

/// Sends without blocking, and asks for the acknowledgement of the last byte that the kernel takes.
pub fn send_timestamped(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = timestamped_message(&mut part);
    // SAFETY: the message refers to `bytes`, `part` and a static, all alive; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// One message of the error queue.
pub enum ErrorQueue {
    /// The peer has acknowledged the byte with this index, and every byte before it. The index counts from
    /// [`enable_ack_timestamps`], modulo 2^32.
    Acked(u32),
    Other,
    /// The queue has no message.
    Empty,
}

/// Room for the control part of one message of the error queue: a timestamp and an extended error.
#[repr(C, align(8))]
pub struct ErrorControl([u8; 256]);

impl Default for ErrorControl {
    fn default() -> Self {
        ErrorControl([0; 256])
    }
}

impl ErrorControl {
    /// The message that receives into it. It has no data part, because OPT_TSONLY sends none.
    pub fn message(&mut self) -> libc::msghdr {
        // SAFETY: msghdr is plain data; all-zero is its documented empty value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = self.0.len() as _;
        message
    }

    /// What the kernel wrote, up to the length that it left in `received`.
    pub fn read(&self, received: &libc::msghdr) -> ErrorQueue {
        // SAFETY: msghdr is plain data; all-zero is its documented empty value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = self.0.as_ptr().cast_mut().cast();
        message.msg_controllen = received.msg_controllen.min(self.0.len() as _);
        // SAFETY: the control part is alive, aligned for cmsghdr and initialized. CMSG_FIRSTHDR and CMSG_NXTHDR stay
        // inside it and only read. A sock_extended_err follows a header whose length covers one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn an_announcement_carries_the_index_of_the_last_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        enable_ack_timestamps(server.as_fd()).unwrap();
        for expected in [4, 9] {
            assert_eq!(send_timestamped(server.as_fd(), b"12345").unwrap(), 5);
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
