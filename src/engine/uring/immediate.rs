//! Responses of a turn that brought little: each by a system call of its own.
//!
//! Through the ring a send costs a completion, and where there is little else the enter that carries it out
//! returns with nothing but that: another turn, and another for the announcement of its acknowledgement. A peer on
//! the same machine has acknowledged by the time that a send is over, so one look behind it answers that question
//! too. Turns that bring much share all of this, and there the ring is cheaper.

use super::Uring;
use super::send::{Message, Outgoing, Way};
use super::sockets::NO_SEND;
use crate::broker::io::{ConnId, Payload};
use crate::engine::ack_checks::{AckChecks, ChecksAcks, FIRST_CHECK};
use crate::engine::fact::Fact;
use crate::sys::calls::{self, taken};
use crate::sys::tcp;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

impl Uring {
    /// This turn brought so little that responses go at once.
    pub(super) fn sends_at_once(&self) -> bool {
        self.completions_of_turn < self.ring_from_completions
    }

    /// Sends a response of which nothing is to be known but that the kernel has it.
    pub(super) fn send_at_once(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        match taken(calls::transmit(socket.fd(), payload.bytes())) {
            Ok(count) => {
                socket.count_sent(count);
                self.go_on_behind(conn, Outgoing::new(payload, Way::Plain), count);
            }
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    /// Sends a response whose acknowledgement is to be reported: it is looked for where the last one was there at
    /// once, and announced elsewhere.
    pub(super) fn send_acked_at_once(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        let len = payload.bytes().len();
        let checked = socket.expects_ack_at_once(self.acks_at_once);
        let sent = socket
            .begin_acked(len, checked)
            .and_then(|pieces| transmit(socket.fd(), payload.bytes(), pieces.into(), checked));
        let Ok(count) = sent else { return self.facts.push_back(Fact::Reset(conn)) };
        socket.count_sent(count);
        let way = match checked || count == len {
            true => Way::Plain,
            false => Way::Stamped(self.messages.take(Message::new)),
        };
        self.go_on_behind(conn, Outgoing::new(payload, way), count);
        let is_acked = count == len && self.look_behind_send(conn);
        match checked {
            _ if is_acked => {}
            // Perhaps the peer was just reading.
            true if count == len => self.check_later(conn, Duration::ZERO),
            true => self.check_later(conn, FIRST_CHECK),
            false => self.arm_errors(conn),
        }
    }

    /// The kernel has taken `count` bytes; the rest goes through the ring, which waits for room.
    fn go_on_behind(&mut self, conn: ConnId, mut outgoing: Outgoing, count: usize) {
        outgoing.advance(count);
        match outgoing.rest().is_empty() {
            true => self.facts.push_back(Fact::Sent(conn)),
            false => self.send_behind(conn, outgoing, 0),
        }
    }

    /// Whether all of a response is acknowledged already: then that is told.
    fn look_behind_send(&mut self, conn: ConnId) -> bool {
        let Some(socket) = self.sockets.open_one(conn) else { return false };
        let is_acked = tcp::is_acknowledged(socket.fd());
        self.expect_ack_at_once(conn, is_acked);
        if is_acked {
            self.acknowledged(conn);
        }
        is_acked
    }

    pub(super) fn check_later(&mut self, conn: ConnId, after: Duration) {
        let Some(acks) = self.sockets.open_one(conn).and_then(|socket| socket.acks.as_mut()) else { return };
        if !std::mem::replace(&mut acks.checked, true) {
            self.looks.add(conn, Instant::now() + after);
        }
    }

    /// Whether the next response to `conn`, and the first ones to others, are taken to be acknowledged at once.
    pub(super) fn expect_ack_at_once(&mut self, conn: ConnId, at_once: bool) {
        self.acks_at_once = at_once;
        if let Some(acks) = self.sockets.open_one(conn).and_then(|socket| socket.acks.as_mut()) {
            acks.at_once = Some(at_once);
        }
    }

    /// An acknowledgement that was looked for is there.
    pub(super) fn acknowledged(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        socket.acknowledged();
        self.facts.push_back(Fact::Acked(conn));
        if !socket.reading {
            // The watch was for the end of what was in question.
            self.watch_anew(conn);
        }
    }
}

impl ChecksAcks for Uring {
    fn looks(&mut self) -> &mut AckChecks {
        &mut self.looks
    }

    /// The end of a connection is told by its receive, or its watch.
    fn is_over(&mut self, conn: ConnId) -> bool {
        let Some(socket) = self.sockets.open_one(conn) else { return true };
        if !socket.acks.as_ref().is_some_and(|acks| acks.checked) {
            return true;
        }
        if socket.send != NO_SEND {
            return false;
        }
        let is_acked = tcp::is_acknowledged(socket.fd());
        let was_expected = socket.expects_ack_at_once(true);
        match is_acked {
            true => self.acknowledged(conn),
            // Not even a turn later. Once for each: a silent peer says nothing of others.
            false if was_expected => self.expect_ack_at_once(conn, false),
            false => {}
        }
        is_acked
    }
}

/// Sends what there is room for of `bytes`, the first `pieces` of them one by one; see [`AckTimestamps::begin`]. The
/// acknowledgement is announced unless it is looked for.
///
/// [`AckTimestamps::begin`]: crate::engine::ack_timestamps::AckTimestamps::begin
fn transmit(fd: BorrowedFd<'_>, bytes: &[u8], pieces: usize, checked: bool) -> io::Result<usize> {
    for sent in 0..pieces {
        if taken(calls::transmit(fd, &bytes[sent..=sent]))? == 0 {
            return Ok(sent);
        }
    }
    let rest = &bytes[pieces..];
    let sent = if checked { calls::transmit(fd, rest) } else { tcp::send_stamped(fd, rest) };
    Ok(pieces + taken(sent)?)
}
