//! The system calls that every request needs, without the C library.
//!
//! The C library's functions are cancellation points (pthreads(7)): before and after each call they mark the thread as
//! cancellable. Pilotlight cancels no thread, and the marking costs as much as a third of the call.

use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

/// recv(2): receives what has arrived, up to `buffer`'s length; 0 at the end of the stream. `WouldBlock` if there
/// is nothing now.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket, buffer, RecvFlags::DONTWAIT)?.1)
}

/// send(2): returns how many of `bytes` the kernel took. `WouldBlock` if it can take none now. A broken stream
/// raises no signal.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Like [`transmit`], but the kernel holds back what does not fill a segment (MSG_MORE, send(2)). The FIN that the
/// caller sends next then goes out with those bytes.
pub fn transmit_held(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | SendFlags::MORE)?)
}

/// Treats a send that found no room, or that a signal interrupted, as a send of 0 bytes.
pub fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        sent => sent,
    }
}

/// accept4(2): takes the queue's next connection, non-blocking. `WouldBlock` if the queue is empty.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}
