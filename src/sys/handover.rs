//! Handing a port to a successor without dropping a connection.
//!
//! Sockets that share a port by SO_REUSEPORT form a group, and the kernel spreads new connections
//! over it. Closing one of them resets what its queue still holds and what is still in handshake.
//! So before the predecessor closes, it tells the group to send every new connection to the
//! successor (SO_ATTACH_REUSEPORT_CBPF, socket(7)), goes on accepting until its own handshakes are
//! through, and closes empty listeners.
#![allow(unsafe_code)]

use super::listeners::listening_sockets;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::SockRef;

/// This process's sockets on one address, as members of the address's group.
pub struct ListenGroup {
    member: OwnedFd,
    addr: SocketAddr,
    own_sockets: usize,
}

impl AsFd for ListenGroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.as_fd()
    }
}

impl ListenGroup {
    /// `member` is one of the `own_sockets` sockets with which this process listens on its address.
    pub fn new(member: &impl AsFd, own_sockets: usize) -> io::Result<ListenGroup> {
        let member = member.as_fd().try_clone_to_owned()?;
        let addr = SockRef::from(&member).local_addr()?;
        let addr = addr.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(ListenGroup { member, addr, own_sockets })
    }

    /// Sends the group's new connections to a process that joined later. False: there is none.
    ///
    /// The predecessor's sockets are the group's first ones, so the successor's first has their
    /// number as its index. When they are gone that index lies beyond a group of the same size or
    /// smaller, and the kernel spreads connections again. A larger successor would be left with
    /// one busy socket: there the steering is taken back just before the close, at the price of a
    /// moment in which a new connection may still meet a closing listener.
    pub fn steer_to_successor(&self) -> bool {
        let successors = listening_sockets(self.addr).saturating_sub(self.own_sockets);
        successors > 0 && steer(self.member.as_fd(), self.own_sockets as u32).is_ok()
    }

    /// Takes back the steering if it would outlive this process's sockets.
    pub fn release(&self) {
        let successors = listening_sockets(self.addr).saturating_sub(self.own_sockets);
        if successors > self.own_sockets {
            // Without it one socket of the successor takes all: it works on, unevenly.
            let _ = unsteer(self.member.as_fd());
        }
    }
}

/// Sends the group's new connections to its member with this index, counted in the order of
/// joining. An index beyond the group means: spread them as before.
fn steer(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: index }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the option's value is a sock_fprog, which points to one instruction; both are alive
    // during the call, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the kernel spread the group's connections again.
fn unsteer(fd: BorrowedFd<'_>) -> io::Result<()> {
    let unused: libc::c_int = 0;
    // SAFETY: the option takes an int that is not looked at (socket(7), SO_DETACH_REUSEPORT_BPF).
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listen::{Side, bind};
    use std::net::TcpStream;

    #[test]
    fn new_connections_go_where_they_are_steered() {
        let first = bind(Side::Runner, "127.0.0.1:0".parse().unwrap(), 64, true).unwrap();
        let addr = first.local_addr().unwrap();
        let second = bind(Side::Runner, addr, 64, false).unwrap();
        assert_eq!(listening_sockets(addr), 2);
        steer(first.as_fd(), 1).unwrap();
        let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(first.accept().is_err(), "nothing is queued where it would be dropped");
        let accepted = std::iter::from_fn(|| second.accept().ok()).count();
        assert_eq!(accepted, clients.len());
        drop(first);
        TcpStream::connect(addr).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(second.accept().is_ok(), "an index beyond the group spreads as before");
    }
}
