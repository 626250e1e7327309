//! Sends the responses of a turn with few completions, each by its own system call.
//!
//! Through the ring, a send costs a completion. In a quiet turn, the enter that carries out the send returns with
//! that completion alone. That costs another turn, and the announced acknowledgement yet another. A peer on the
//! same host has acknowledged by the time a send returns, so one check after it settles that too. In a turn with
//! many completions the responses share one enter, and the ring is cheaper.

use super::Uring;
use super::messages::SendMessage;
use super::outgoing::{Outgoing, SendMode};
use super::sockets::NO_SEND;
use crate::broker::io::{ConnId, Payload};
use crate::engine::ack_checks::{AckChecks, ChecksAcks};
use crate::engine::ack_expectation::{AckExpectation, AfterSend};
use crate::engine::fact::Fact;
use crate::sys::calls::{self, taken};
use crate::sys::tcp;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

impl Uring {
    /// Whether this turn brought so few completions that responses bypass the ring.
    pub(super) fn sends_immediately(&self) -> bool {
        self.completions_of_turn < self.ring_from_completions
    }

    /// Sends a response of which the engine reports only that the kernel has taken it.
    pub(super) fn send_immediately(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        match taken(calls::transmit(socket.fd(), payload.bytes())) {
            Ok(count) => {
                socket.count_sent(count);
                self.finish_by_ring(conn, Outgoing::new(payload, SendMode::Plain), count);
            }
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    /// Sends a response whose acknowledgement the engine must report. The engine polls for an acknowledgement that
    /// it expects immediately; otherwise the kernel announces it.
    pub(super) fn send_acked_immediately(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        let len = payload.bytes().len();
        let checked = self.ack_expectation.is_immediate(socket.last_ack());
        let sent = socket
            .begin_acked(len, checked)
            .and_then(|lead_bytes| transmit(socket.fd(), payload.bytes(), lead_bytes.into(), checked));
        let Ok(count) = sent else { return self.facts.push_back(Fact::Reset(conn)) };
        socket.count_sent(count);
        let mode = match checked || count == len {
            true => SendMode::Plain,
            false => SendMode::Timestamped(self.send_messages.take(SendMessage::new)),
        };
        self.finish_by_ring(conn, Outgoing::new(payload, mode), count);
        let next = match count == len {
            true => self.check_after_send(conn, checked),
            false => AckExpectation::after_short_send(checked),
        };
        match next {
            AfterSend::Acked => self.acknowledged(conn),
            AfterSend::CheckAfter(time) => self.check_later(conn, time),
            AfterSend::Announced => self.arm_errors(conn),
        }
    }

    /// Reports `Sent` if the kernel has taken all. Otherwise sends the rest through the ring, which waits for room.
    fn finish_by_ring(&mut self, conn: ConnId, mut outgoing: Outgoing, taken: usize) {
        outgoing.advance(taken);
        match outgoing.rest().is_empty() {
            true => self.facts.push_back(Fact::Sent(conn)),
            false => self.send_by_ring(conn, outgoing, 0),
        }
    }

    /// Checks for the acknowledgement of a response that the kernel has just taken whole.
    fn check_after_send(&mut self, conn: ConnId, checked: bool) -> AfterSend {
        let Some(socket) = self.sockets.get_open(conn) else { return AfterSend::Announced };
        let is_acked = tcp::is_acknowledged(socket.fd());
        let acks = socket.acks.get_or_insert_default();
        self.ack_expectation.after_send(&mut acks.last, is_acked, checked)
    }

    pub(super) fn check_later(&mut self, conn: ConnId, after: Duration) {
        let Some(acks) = self.sockets.get_open(conn).and_then(|socket| socket.acks.as_mut()) else { return };
        if !std::mem::replace(&mut acks.checked, true) {
            self.ack_checks.add(conn, Instant::now() + after);
        }
    }

    /// Records whether the acknowledgement of `conn` had arrived when its send returned.
    pub(super) fn record_ack(&mut self, conn: ConnId, immediate: bool) {
        let acks = self.sockets.get_open(conn).and_then(|socket| socket.acks.as_mut());
        let mut closed = None;
        self.ack_expectation.record(acks.map_or(&mut closed, |acks| &mut acks.last), immediate);
    }

    /// Reports an acknowledgement that a check has found.
    pub(super) fn acknowledged(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        socket.acknowledged();
        self.facts.push_back(Fact::Acked(conn));
        if !socket.reading {
            // The watch was for a connection that awaited its proof.
            self.rearm_watch(conn);
        }
    }
}

impl ChecksAcks for Uring {
    fn ack_checks(&mut self) -> &mut AckChecks {
        &mut self.ack_checks
    }

    /// Does not check for a failure: the connection's receive or watch finds that.
    fn check_ack(&mut self, conn: ConnId) -> bool {
        let Some(socket) = self.sockets.get_open(conn) else { return true };
        if !socket.acks.as_ref().is_some_and(|acks| acks.checked) {
            return true;
        }
        if socket.send != NO_SEND {
            return false;
        }
        let is_acked = tcp::is_acknowledged(socket.fd());
        let last = socket.last_ack();
        match is_acked {
            true => self.acknowledged(conn),
            // The acknowledgement has not arrived even a turn later. The engine records this once per peer: a silent
            // peer says nothing about others.
            false if last != Some(false) => self.record_ack(conn, false),
            false => {}
        }
        is_acked
    }
}

/// Sends as much of `bytes` as there is room for, the first `lead_bytes` of them one by one; see
/// [`AckTimestamps::begin`]. The kernel announces the acknowledgement unless the engine polls for it (`checked`).
///
/// [`AckTimestamps::begin`]: crate::engine::ack_timestamps::AckTimestamps::begin
fn transmit(fd: BorrowedFd<'_>, bytes: &[u8], lead_bytes: usize, checked: bool) -> io::Result<usize> {
    for sent in 0..lead_bytes {
        if taken(calls::transmit(fd, &bytes[sent..=sent]))? == 0 {
            return Ok(sent);
        }
    }
    let rest = &bytes[lead_bytes..];
    let sent = if checked { calls::transmit(fd, rest) } else { tcp::send_timestamped(fd, rest) };
    Ok(lead_bytes + taken(sent)?)
}
