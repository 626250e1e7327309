//! What the kernel knows of a connection, as both engines tell it.

use crate::broker::io::TcpFacts;
use crate::sys::tcp::{self, TcpExtras};
use std::os::fd::BorrowedFd;

/// The kernel's view; `unsent` bytes are what it has not been given yet.
pub fn of(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    let (alive, unacked_bytes) = match tcp::tcp_state(socket) {
        Ok(state) => (state.alive, state.unacked_bytes + unsent),
        // Nothing is known of it.
        Err(_) => (false, u64::MAX),
    };
    TcpFacts { alive, unacked_bytes, rtt_us: 0, fin: false }
}

/// The same behind the peer's FIN. Where all is acknowledged nothing more is asked: what followed the FIN does not
/// take back that it came.
pub fn behind_fin(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    match unsent == 0 && tcp::is_acknowledged(socket) {
        true => TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 0, fin: false },
        false => of(socket, unsent),
    }
}

/// The kernel's view, and what else it knows.
pub fn with_extras(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    let TcpExtras { rtt_us, fin } = tcp::tcp_extras(socket);
    TcpFacts { rtt_us, fin, ..of(socket, unsent) }
}
