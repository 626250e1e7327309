//! How many connections a turn takes in, and what a failed accept means, for both engines.

use std::time::Duration;

/// Connections taken in per turn; with epoll, of each listener, for each of its readinesses. A herd of thousands is
/// taken in over many turns, and what others ask for is served between them.
pub const ACCEPTS_PER_TURN: usize = 64;

/// After an error that is not one connection's: the queue is tried again then, not in a spin.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Was it the new connection that failed, or nothing at all? Then the next one may be well at once
/// (accept(2)). Everything else lasts: descriptors or memory are short, or the listener is gone.
pub fn next_may_be_well(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPERM
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::EINTR
            | libc::EAGAIN
            | libc::ECANCELED
    )
}
