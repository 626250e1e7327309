//! What the engine does with a connection's readiness: it accepts, checks for errors, writes and reads.

use super::Epoll;
use super::accept::acceptor_number;
use super::outgoing::Progress;
use super::sockets::{Socket, conn_id, socket, token};
use crate::broker::io::ConnId;
use crate::engine::fact::Fact;
use crate::engine::kernel_view;
use crate::sys::calls;
use mio::event::Event;
use mio::{Interest, Token};
use std::io::ErrorKind;
use std::os::fd::AsFd;

/// A connection's readiness, from an event or left over from the last turn.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: Token,
    readable: bool,
    writable: bool,
    error: bool,
    fin: bool,
}

impl Ready {
    pub fn of(event: &Event) -> Ready {
        Ready {
            token: event.token(),
            readable: event.is_readable() || event.is_read_closed(),
            writable: event.is_writable(),
            error: event.is_error(),
            fin: event.is_read_closed(),
        }
    }

    pub fn reading(token: Token) -> Ready {
        Ready { token, readable: true, writable: false, error: false, fin: false }
    }
}

/// Bytes of `conn` at the start of the scratch buffer.
pub struct Received {
    pub conn: ConnId,
    pub count: usize,
}

impl Epoll {
    /// Handles one readiness up to its first fact; the rest stays in the batch.
    pub(super) fn advance(&mut self, ready: Ready) -> Option<Received> {
        if let Some(number) = acceptor_number(ready.token)
            && number < self.acceptors.len()
        {
            self.accept(number);
            return None;
        }
        let conn = conn_id(ready.token);
        let socket = socket(&mut self.sockets, conn)?;
        socket.fin |= ready.fin;
        socket.unread |= ready.readable;
        if ready.error && self.read_errors(conn, ready.fin) {
            return None;
        }
        if ready.readable && self.sockets[conn.slot as usize].ack_checked {
            // A peer that sends its next request has most likely acknowledged the last response with it.
            self.check_once(conn);
        }
        if ready.writable {
            self.continue_write(conn);
        }
        if !self.facts.is_empty() {
            // The engine reports facts in the order in which it finds them: bytes come after an acknowledgement.
            self.cursor -= 1;
            self.batch[self.cursor] = Ready { error: false, writable: false, ..ready };
            return None;
        }
        self.read(conn)
    }

    /// Continues a short write.
    fn continue_write(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        let Some(mut outgoing) = socket.outgoing.take() else { return };
        match outgoing.write(&socket.stream, &mut socket.ack_timestamps) {
            Ok(Progress::Done) => {
                let _ = self.registry.reregister(&mut socket.stream, token(conn), Interest::READABLE);
                self.facts.push_back(Fact::Sent(conn));
            }
            Ok(Progress::Blocked) => socket.outgoing = Some(outgoing),
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    fn read(&mut self, conn: ConnId) -> Option<Received> {
        let socket = socket(&mut self.sockets, conn)?;
        if socket.awaits_proof && socket.fin {
            // The FIN decides whether the peer has read everything. Bytes that the peer sent before it no longer
            // matter.
            socket.unread = false;
            self.facts.push_back(peer_closed(socket, conn));
            return None;
        }
        if !socket.unread || socket.paused || socket.queued {
            return None;
        }
        match calls::receive(&socket.stream, &mut self.scratch) {
            Ok(0) => {
                socket.unread = false;
                socket.fin = true;
                self.facts.push_back(peer_closed(socket, conn));
                None
            }
            Ok(count) => {
                socket.unread = count == self.scratch.len() || socket.fin;
                if socket.unread {
                    read_next_turn(socket, conn, &mut self.leftover);
                }
                Some(Received { conn, count })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.unread = false;
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                read_next_turn(socket, conn, &mut self.leftover);
                None
            }
            Err(_) => {
                self.reset(conn);
                None
            }
        }
    }
}

/// Leaves the unread bytes of `conn` for the next turn; a second call in the same turn does nothing.
pub fn read_next_turn(socket: &mut Socket, conn: ConnId, leftover: &mut Vec<Ready>) {
    if !std::mem::replace(&mut socket.queued, true) {
        leftover.push(Ready::reading(token(conn)));
    }
}

/// The fact for the peer's FIN. While bytes are unacknowledged, the engine also reports what follows. If both sides
/// have closed, the acknowledgement ends the connection, and epoll reports that as an event.
fn peer_closed(socket: &mut Socket, conn: ConnId) -> Fact {
    let facts = socket.awaits_proof.then(|| kernel_view::after_fin(socket.stream.as_fd(), socket.unsent()));
    socket.awaits_proof = facts.is_some_and(|facts| facts.unacked_bytes > 0);
    Fact::PeerClosed { conn, facts }
}
