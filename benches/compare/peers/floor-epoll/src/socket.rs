//! The syscalls of the floor, each behind one safe function.

use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;

pub const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
pub const EDGE: u32 = libc::EPOLLET as u32;

/// What the error queue reports about a timestamped send.
pub enum Stamped {
    /// Nothing yet.
    None,
    /// The peer's kernel has acknowledged up to and including this byte.
    Acknowledged(u32),
    /// The connection failed.
    Broken,
}

pub struct Epoll(i32);

impl Epoll {
    pub fn new() -> Self {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "epoll_create1: {}", std::io::Error::last_os_error());
        Epoll(fd)
    }

    pub fn events() -> Vec<libc::epoll_event> {
        vec![libc::epoll_event { events: 0, u64: 0 }; 512]
    }

    pub fn add(&self, fd: i32, events: u32) {
        let mut event = libc::epoll_event { events, u64: fd as u64 };
        // SAFETY: `event` lives over the call.
        let done = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert!(done == 0, "epoll_ctl: {}", std::io::Error::last_os_error());
    }

    pub fn wait(&self, events: &mut [libc::epoll_event]) -> usize {
        // SAFETY: the kernel writes at most `events.len()` events.
        unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, -1) }.max(0) as usize
    }
}

/// (descriptor, readable or ended, error or error queue)
pub fn event(event: &libc::epoll_event) -> (i32, bool, bool) {
    let flags = event.events as i32;
    let is_readable = flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) != 0;
    (event.u64 as i32, is_readable, flags & libc::EPOLLERR != 0)
}

pub fn listen(port: u16, mss: Option<u32>) -> i32 {
    // The standard library's listener has a fixed backlog of 128 and no MSS: set both on its socket.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    let fd = listener.into_raw_fd();
    if let Some(mss) = mss {
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, mss);
    }
    // SAFETY: no pointers are passed.
    unsafe { libc::listen(fd, 4096) };
    fd
}

pub fn accept(listener: i32) -> Option<i32> {
    // SAFETY: a null address is allowed and asks for none.
    let fd =
        unsafe { libc::accept4(listener, null_mut(), null_mut(), libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
    (fd >= 0).then_some(fd)
}

/// `Some(0)`: the connection ended by a FIN or an error.
pub fn read(fd: i32, into: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes at most `into.len()` bytes.
    let read = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), 0) };
    if read >= 0 {
        return Some(read as usize);
    }
    match std::io::Error::last_os_error().kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => None,
        _ => Some(0),
    }
}

pub fn send(fd: i32, bytes: &[u8]) {
    // SAFETY: the kernel reads `bytes.len()` bytes. A failed send shows as the connection's end on the next read.
    unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
}

/// The last bytes, and the FIN in the same segment.
pub fn send_last(fd: i32, bytes: &[u8]) {
    // SAFETY: the kernel reads `bytes.len()` bytes. A failure shows on the next read.
    unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_MORE);
        libc::shutdown(fd, libc::SHUT_WR);
    }
}

pub fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor and forgets it.
    unsafe { libc::close(fd) };
}

/// Makes the kernel report acknowledgements by the number of their last byte. Returns the connection's segment size.
pub fn stamp_acknowledgements(fd: i32) -> u32 {
    const FLAGS: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY
        | libc::SOF_TIMESTAMPING_OPT_ID_TCP;
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, FLAGS);
    let mut mss: u32 = 0;
    let mut bytes = size_of::<u32>() as libc::socklen_t;
    // SAFETY: both pointers live over the call and `bytes` tells the first one's size.
    unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, (&raw mut mss).cast(), &mut bytes) };
    mss.max(1)
}

#[repr(C, align(8))]
struct Control([u8; 256]);

/// Sends and asks for one report, when the last of these bytes is acknowledged.
pub fn send_stamped(fd: i32, bytes: &[u8]) {
    const TX_ACK: u32 = libc::SOF_TIMESTAMPING_TX_ACK;
    let mut control = Control([0; 256]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain old data; `control` is aligned, large enough for one u32 and lives over the
    // call, as do the vector and its bytes, which the kernel only reads.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of_val(&TX_ACK) as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SO_TIMESTAMPING;
        (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&TX_ACK) as u32) as usize;
        libc::CMSG_DATA(header).cast::<u32>().write_unaligned(TX_ACK);
        libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL);
    }
}

pub fn read_stamp(fd: i32) -> Stamped {
    const ACKNOWLEDGED: u32 = 2;
    let mut control = Control([0; 256]);
    // SAFETY: `msghdr` is plain old data; the kernel writes at most `msg_controllen` bytes into `control`, and
    // the CMSG macros walk only what it wrote.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        if libc::recvmsg(fd, &mut message, libc::MSG_ERRQUEUE) < 0 {
            let broken =
                std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock || is_broken(fd);
            return if broken { Stamped::Broken } else { Stamped::None };
        }
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_IP && (*header).cmsg_type == libc::IP_RECVERR {
                let error = libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned();
                if error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING && error.ee_info == ACKNOWLEDGED {
                    return Stamped::Acknowledged(error.ee_data);
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    Stamped::None
}

fn is_broken(fd: i32) -> bool {
    let mut error: i32 = 0;
    let mut bytes = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both pointers live over the call and `bytes` tells the first one's size.
    unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut bytes) };
    error != 0
}

fn set_option(fd: i32, level: i32, name: i32, value: u32) {
    // SAFETY: `value` lives over the call and its size is passed.
    let done = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<u32>() as libc::socklen_t)
    };
    assert!(done == 0, "setsockopt: {}", std::io::Error::last_os_error());
}
