//! Acknowledgements: found when a send returns, announced in the error queue, or found by a later check of the
//! send queue.

use super::Epoll;
use super::sockets::{Socket, socket};
use crate::broker::io::ConnId;
use crate::engine::ack_checks::{AckChecks, ChecksAcks};
use crate::engine::ack_expectation::AfterSend;
use crate::engine::fact::Fact;
use crate::sys::tcp::{self, ErrorQueue, TcpState};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Epoll {
    /// Whether the engine polls for the acknowledgement of its next send to `conn`, instead of having the kernel
    /// announce it. The engine polls if it expects the acknowledgement within the send, or is busy.
    pub(super) fn checks_ack_of(&mut self, conn: ConnId) -> bool {
        let last = socket(&mut self.sockets, conn).and_then(|socket| socket.last_ack);
        self.ack_expectation.is_immediate(last) || self.batch.len() >= self.ack_check_from_events
    }

    /// Checks for the acknowledgement of a response that the kernel has just taken whole.
    pub(super) fn check_after_send(&mut self, conn: ConnId, checked: bool) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        let is_acked = tcp::is_acknowledged(socket.stream.as_fd());
        let next = self.ack_expectation.after_send(&mut socket.last_ack, is_acked, checked);
        self.handle_after_send(conn, next);
    }

    /// Acts on what follows a send.
    pub(super) fn handle_after_send(&mut self, conn: ConnId, next: AfterSend) {
        match next {
            AfterSend::Acked => self.acknowledged(conn),
            AfterSend::CheckAfter(time) => self.check_later(conn, time),
            AfterSend::Announced => {}
        }
    }

    /// Schedules checks for the acknowledgement of `conn`: the first at the end of the first turn that ends
    /// `after` this time or later.
    fn check_later(&mut self, conn: ConnId, after: Duration) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        if !std::mem::replace(&mut socket.ack_checked, true) {
            self.ack_checks.add(conn, Instant::now() + after);
        }
    }

    fn acknowledged(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        socket.ack_checked = false;
        socket.awaits_proof = false;
        socket.ack_timestamps.awaited = None;
        self.facts.push_back(Fact::Acked(conn));
    }

    /// Reads the error queue, and the socket's error unless the queue held only the awaited acknowledgement. If
    /// `has_fin`, the same event brought the peer's FIN. Returns true if the connection has failed.
    pub(super) fn read_errors(&mut self, conn: ConnId, has_fin: bool) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn) else { return true };
        let mut is_acked = false;
        // The queue may begin with announcements that the engine no longer awaits.
        while socket.ack_timestamps.are_announced() && !is_acked {
            match tcp::next_error(socket.stream.as_fd()) {
                Ok(ErrorQueue::Acked(index)) => is_acked = socket.ack_timestamps.awaited == Some(index),
                Ok(ErrorQueue::Other) => {}
                Ok(ErrorQueue::Empty) | Err(_) => break,
            }
        }
        let has_failed = (!is_acked || has_fin) && !matches!(socket.stream.take_error(), Ok(None));
        if is_acked {
            self.acknowledged(conn);
        }
        if has_failed {
            self.reset(conn);
        }
        has_failed
    }

    /// Reports that the peer reset `conn`. If the peer acknowledged the response before that, the engine reports the
    /// acknowledgement first. Both can happen between two checks, and the kernel drops an announcement for which it
    /// has no room.
    pub(super) fn reset(&mut self, conn: ConnId) {
        let awaits_ack = |socket: &mut Socket| socket.ack_checked || socket.ack_timestamps.awaited.is_some();
        if socket(&mut self.sockets, conn).is_some_and(awaits_ack) {
            self.check_once(conn);
        }
        self.facts.push_back(Fact::Reset(conn));
    }

    /// Checks for the acknowledgement of a response that awaits one.
    pub(super) fn check_once(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        if socket.outgoing.is_none() && tcp::is_acknowledged(socket.stream.as_fd()) {
            self.acknowledged(conn);
        }
    }
}

impl ChecksAcks for Epoll {
    fn ack_checks(&mut self) -> &mut AckChecks {
        &mut self.ack_checks
    }

    /// Checks for a failure too: without timestamps, the kernel announces none.
    fn check_ack(&mut self, conn: ConnId) -> bool {
        let Some(socket) = socket(&mut self.sockets, conn).filter(|socket| socket.ack_checked) else {
            return true;
        };
        if socket.outgoing.is_some() {
            return false;
        }
        match tcp::tcp_state(socket.stream.as_fd()) {
            Ok(TcpState { alive: true, unacked_bytes: 1.. }) => return false,
            Ok(TcpState { alive: true, unacked_bytes: 0 }) => self.acknowledged(conn),
            Ok(TcpState { alive: false, .. }) | Err(_) => self.reset(conn),
        }
        true
    }
}
