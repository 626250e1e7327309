//! Hands over a port to a successor without dropping a connection.
//!
//! Sockets that share a port by SO_REUSEPORT form a group, and the kernel spreads new connections over it. A socket
//! that closes resets the connections in its queue and those still in their handshake. So the predecessor first
//! directs the group's new connections to the successor (SO_ATTACH_REUSEPORT_CBPF, socket(7)). It goes on accepting
//! until its own handshakes are over, and then closes empty listeners.
#![allow(unsafe_code)]

use super::count::listening_sockets;
use socket2::SockRef;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The sockets with which this process listens on one address, as members of the address's group.
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

    /// Directs the group's new connections to a process that joined later. Returns false if there is none.
    ///
    /// The predecessor's sockets are the group's first ones, so their number is the index of the successor's first
    /// socket. When they are closed, that index lies beyond a group of the same size or smaller, and the kernel
    /// spreads connections again. With a larger successor, all connections would keep going to one of its sockets.
    /// So [`ListenGroup::release`] undoes the steering just before the close. In that moment a new connection may
    /// reach a closing listener.
    pub fn steer_to_successor(&self) -> bool {
        let successors = listening_sockets(self.addr).saturating_sub(self.own_sockets);
        successors > 0 && steer(self.member.as_fd(), self.own_sockets as u32).is_ok()
    }

    /// Undoes the steering if it would outlive this process's sockets.
    pub fn release(&self) {
        let successors = listening_sockets(self.addr).saturating_sub(self.own_sockets);
        if successors > self.own_sockets {
            // If it fails, one socket of the successor takes all connections: it works, but unevenly.
            let _ = unsteer(self.member.as_fd());
        }
    }
}

/// Directs the group's new connections to its member with this index, in the order of joining. With an index beyond
/// the group the kernel spreads them as before.
fn steer(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: index }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the option's value is a sock_fprog that points to one instruction. Both are alive during the call, and
    // the kernel copies them.
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

/// Makes the kernel spread the group's connections again.
fn unsteer(fd: BorrowedFd<'_>) -> io::Result<()> {
    let unused: libc::c_int = 0;
    // SAFETY: the option takes an int, which the kernel ignores (socket(7), SO_DETACH_REUSEPORT_BPF).
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
    use super::super::{Side, bind};
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn steering_directs_new_connections_to_one_member() {
        let first = bind(Side::Runner, "127.0.0.1:0".parse().unwrap(), 64, true).unwrap();
        let addr = first.local_addr().unwrap();
        let second = bind(Side::Runner, addr, 64, false).unwrap();
        assert_eq!(listening_sockets(addr), 2);
        steer(first.as_fd(), 1).unwrap();
        let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(first.accept().is_err(), "the closing listener gets no connection");
        let accepted = std::iter::from_fn(|| second.accept().ok()).count();
        assert_eq!(accepted, clients.len());
        drop(first);
        TcpStream::connect(addr).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(second.accept().is_ok(), "with an index beyond the group the kernel spreads as before");
    }
}
