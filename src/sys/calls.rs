//! The system calls of every request, without the C library.
//!
//! The C library's functions are cancellation points (pthreads(7)): before and after each call they mark the thread as
//! cancellable. Pilotlight cancels no thread, and the marking costs as much as a third of the call.

use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

/// recv(2): takes what there is, up to `buffer`'s length; 0 at the end of the stream. `WouldBlock`: nothing now.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket, buffer, RecvFlags::DONTWAIT)?.1)
}

/// send(2): answers how many of `bytes` the kernel took. `WouldBlock`: none now. A broken stream raises no signal.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// The same, but the kernel holds back what does not fill a segment (MSG_MORE, send(2)). The FIN that the caller sends
/// next then goes with it.
pub fn transmit_held(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | SendFlags::MORE)?)
}

/// Reads a send for which there was no room, or which a signal interrupted, as one of 0 bytes.
pub fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        sent => sent,
    }
}

/// accept4(2): takes the queue's next connection, non-blocking. `WouldBlock`: the queue is empty.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}
