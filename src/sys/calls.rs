//! The calls that every request makes, straight to the kernel.
//!
//! The C library's are cancellation points (pthreads(7)): they say before and after each call that the thread may be
//! cancelled, which nobody here asks for and which costs as much as a third of the call.

use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

/// recv(2): what there is, up to `buffer`'s length; 0 at the end of the stream. `WouldBlock`: nothing now.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket, buffer, RecvFlags::DONTWAIT)?.1)
}

/// send(2): how many of `bytes` the kernel took. `WouldBlock`: none now. No signal where the stream is broken.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// The same; what does not fill a segment is held back for the FIN that follows at once, so that both go together
/// (MSG_MORE, send(2)).
pub fn transmit_held(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | SendFlags::MORE)?)
}

/// What the kernel took of a send for which there was no room, or which a signal interrupted: nothing.
pub fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        sent => sent,
    }
}

/// accept4(2): the queue's next connection, non-blocking. `WouldBlock`: the queue is empty.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
}
