//! How many connections a turn accepts, and what a failed accept means, for both engines.

use std::time::Duration;

/// Connections that an engine accepts per turn; with epoll, per listener and readiness event. The engine accepts a
/// burst of thousands over many turns and serves the older connections in between.
pub const ACCEPTS_PER_TURN: usize = 64;

/// How long an engine waits before it accepts again after a lasting error, so that it does not spin.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Whether the next accept may succeed immediately: only the new connection failed, or nothing did (accept(2)).
/// Every other error lasts: descriptors or memory are short, or the listener is gone.
pub fn next_may_succeed(errno: i32) -> bool {
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
