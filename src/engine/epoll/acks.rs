//! Acknowledgements: there when a send is over, announced in the error queue, or looked for in the send queue.

use super::{Epoll, socket};
use crate::broker::io::ConnId;
use crate::engine::ack_checks::{AckChecks, ChecksAcks, FIRST_CHECK};
use crate::engine::fact::Fact;
use crate::sys::tcp::{self, ErrorQueue, TcpState};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Epoll {
    /// Whether the kernel is to announce the acknowledgement of what is sent to `conn` now. Not if it will be there
    /// when the send is over: a peer on the same machine gets the segments within the very call, and acknowledges them
    /// there. What the last one did is what the next one is taken to do.
    pub(super) fn has_it_announced(&mut self, conn: ConnId) -> bool {
        let at_once = socket(&mut self.sockets, conn).and_then(|socket| socket.acks_at_once);
        !at_once.unwrap_or(self.acks_at_once) && self.batch.len() < self.ack_check_from_events
    }

    /// The kernel has all of a response: is it acknowledged already?
    pub(super) fn look_behind_send(&mut self, conn: ConnId, checked: bool) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        let is_acked = tcp::is_acknowledged(socket.stream.as_fd());
        let was_expected = socket.acks_at_once.replace(is_acked).unwrap_or(self.acks_at_once);
        self.acks_at_once = is_acked;
        if is_acked {
            self.acknowledged(conn);
        } else if checked {
            // Perhaps the peer was just reading.
            self.check_later(conn, if was_expected { Duration::ZERO } else { FIRST_CHECK });
        }
    }

    /// The acknowledgement of what was sent to `conn` is looked for: when a turn ends `after` so long, and
    /// then at intervals.
    pub(super) fn check_later(&mut self, conn: ConnId, after: Duration) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        if !std::mem::replace(&mut socket.watched, true) {
            self.looks.add(conn, Instant::now() + after);
        }
    }

    fn acknowledged(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        socket.watched = false;
        socket.in_question = false;
        socket.stamps.awaited = None;
        self.facts.push_back(Fact::Acked(conn));
    }

    /// An acknowledgement or a failure, or, where the peer's end was told with it (`is_over`), both? True if the
    /// connection is done for.
    pub(super) fn look_at_errors(&mut self, conn: ConnId, is_over: bool) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn) else { return true };
        let mut is_acked = false;
        // To its end: there may be announcements in it that nobody waits for any more.
        while socket.stamps.are_announced() && !is_acked {
            match tcp::next_error(socket.stream.as_fd()) {
                Ok(ErrorQueue::Acked(index)) => is_acked = socket.stamps.awaited == Some(index),
                Ok(ErrorQueue::Other) => {}
                Ok(ErrorQueue::Empty) | Err(_) => break,
            }
        }
        let has_failed = (!is_acked || is_over) && !matches!(socket.stream.take_error(), Ok(None));
        if is_acked {
            self.acknowledged(conn);
        }
        if has_failed {
            self.reset(conn);
        }
        has_failed
    }

    /// Tells that `conn` was reset, and first that its response had been acknowledged, if so: between two looks
    /// there is time for both, and an announcement that found no room is lost.
    pub(super) fn reset(&mut self, conn: ConnId) {
        let is_awaited = |socket: &mut super::Socket| socket.watched || socket.stamps.awaited.is_some();
        if socket(&mut self.sockets, conn).is_some_and(is_awaited) {
            self.look_once(conn);
        }
        self.facts.push_back(Fact::Reset(conn));
    }

    /// AckChecks for the acknowledgement of a response that awaits one.
    pub(super) fn look_once(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        if socket.outgoing.is_none() && tcp::is_acknowledged(socket.stream.as_fd()) {
            self.acknowledged(conn);
        }
    }
}

impl ChecksAcks for Epoll {
    fn looks(&mut self) -> &mut AckChecks {
        &mut self.looks
    }

    /// AckChecks for the failure too: no error was announced.
    fn is_over(&mut self, conn: ConnId) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn).filter(|socket| socket.watched) else {
            return true;
        };
        if socket.outgoing.is_some() {
            return false;
        }
        match tcp::tcp_state(socket.stream.as_fd()) {
            Ok(TcpState { alive: true, unacked_bytes: 1.. }) => return false,
            Ok(TcpState { alive: true, unacked_bytes: 0 }) => self.acknowledged(conn),
            Ok(TcpState { alive: false, .. }) | Err(_) => {
                self.reset(conn);
            }
        }
        true
    }
}
