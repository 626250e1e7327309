//! What the kernel knows about a connection, as both engines report it. `unsent` is the number of bytes that the
//! engine has not passed to the kernel yet.

use crate::broker::io::TcpFacts;
use crate::sys::tcp::{self, TcpExtras};
use std::os::fd::BorrowedFd;

/// Whether the connection is alive, and how much the peer has not acknowledged.
pub fn of(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    let (alive, unacked_bytes) = match tcp::tcp_state(socket) {
        Ok(state) => (state.alive, state.unacked_bytes + unsent),
        // The kernel knows nothing about it.
        Err(_) => (false, u64::MAX),
    };
    TcpFacts { alive, unacked_bytes, rtt_us: 0, fin: false }
}

/// The same after the peer's FIN. If the peer has acknowledged everything, this does not ask for the state:
/// nothing that follows the FIN undoes the acknowledgement.
pub fn after_fin(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    match unsent == 0 && tcp::is_acknowledged(socket) {
        true => TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 0, fin: false },
        false => of(socket, unsent),
    }
}

/// The same with the round trip time, and whether the peer's FIN has arrived.
pub fn with_extras(socket: BorrowedFd<'_>, unsent: u64) -> TcpFacts {
    let TcpExtras { rtt_us, fin } = tcp::tcp_extras(socket);
    TcpFacts { rtt_us, fin, ..of(socket, unsent) }
}
