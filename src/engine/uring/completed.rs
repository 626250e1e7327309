//! What the engine does when an operation completes.

use super::Uring;
use super::buffers::Received;
use super::op::{Kind, Op, op};
use super::outgoing::SendMode;
use super::ring::Completion;
use super::sockets::NO_SEND;
use crate::broker::io::ConnId;
use crate::engine::fact::Fact;
use crate::engine::kernel_view;
use crate::sys::tcp::{self, ErrorQueue};
use std::time::Duration;

impl Uring {
    /// Handles one completion. Returns the bytes that it brought; every other fact goes to the queue.
    pub(super) fn complete(&mut self, completion: Completion) -> Option<Received> {
        let Op { kind, conn } = completion.op;
        match kind {
            Kind::Receive => return self.received(conn, &completion),
            Kind::Send | Kind::LeadByte => self.sent(conn, completion.result),
            Kind::Errors => self.error_received(conn, completion.result),
            Kind::AckCheck => self.ack_checked(conn, completion.result),
            Kind::Accept => self.accepted(conn.slot as usize, &completion),
            Kind::Watch => self.watched(conn, completion.result),
            Kind::Wake if !completion.more => self.arm_waker(),
            Kind::Wake | Kind::Silent => {}
        }
        None
    }

    fn received(&mut self, conn: ConnId, completion: &Completion) -> Option<Received> {
        let Some(socket) = self.sockets.get(conn) else {
            debug_assert!(false, "a slot is in use while one of its operations is under way");
            return self.unused(completion.buffer);
        };
        if !completion.more {
            socket.receiving = false;
            socket.ended();
        }
        if socket.closing {
            self.finish_close(conn);
            return self.unused(completion.buffer);
        }
        if let (1.., Some(buffer)) = (completion.result, completion.buffer) {
            if !completion.more {
                self.receive_or_watch(conn);
            }
            return Some(Received { conn, buffer, len: completion.result as usize });
        }
        match -completion.result {
            0 => self.peer_closed(conn),
            libc::ENOBUFS => {
                self.buffers_exhausted += 1;
                self.starved.push_back(conn);
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive_or_watch(conn),
            _ => self.reset(conn),
        }
        self.unused(completion.buffer)
    }

    /// Reports that the peer reset `conn`. If the peer acknowledged the response before that, the engine reports the
    /// acknowledgement first. Both can happen between two checks, and the acknowledgement may complete after the
    /// reset.
    fn reset(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        if socket.awaits_ack() && tcp::is_acknowledged(socket.fd()) {
            socket.acknowledged();
            self.facts.push_back(Fact::Acked(conn));
        }
        self.facts.push_back(Fact::Reset(conn));
    }

    fn unused(&mut self, buffer: Option<u16>) -> Option<Received> {
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        None
    }

    /// Reports the peer's FIN. If bytes are unacknowledged, the facts are right only while the socket still has its
    /// error, which the kernel reports once (tcp(7)). A receive that ends with a FIN has not taken the error. A
    /// receive or a send that takes the error fails, and the engine reports a reset instead.
    fn peer_closed(&mut self, conn: ConnId) {
        let unsent = self.unsent(conn);
        let Some(socket) = self.sockets.get_open(conn) else { return };
        socket.fin = true;
        let facts = socket.awaits_proof.then(|| kernel_view::after_fin(socket.fd(), unsent));
        self.facts.push_back(Fact::PeerClosed { conn, facts });
        if facts.is_some_and(|facts| facts.unacked_bytes > 0) {
            self.arm_watch(conn);
        }
    }

    fn watched(&mut self, conn: ConnId, result: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.watching = false;
        socket.ended();
        if socket.closing {
            return self.finish_close(conn);
        }
        if result < 0 {
            // Cancelled: arms another watch if the connection still needs one.
            return self.arm_watch(conn);
        }
        if !kernel_view::of(socket.fd(), 0).alive {
            self.reset(conn);
        } else if result & i32::from(libc::POLLRDHUP) != 0 && !socket.fin {
            self.peer_closed(conn);
        } else if result & i32::from(libc::POLLHUP) == 0 {
            self.watch_after_announcement(conn);
        }
    }

    /// An announced acknowledgement ends a watch too (POLLERR). The engine arms the next watch after it has read the
    /// announcement; before that the watch would end immediately again.
    fn watch_after_announcement(&mut self, conn: ConnId) {
        self.arm_errors(conn);
        let Some(socket) = self.sockets.get_open(conn) else { return };
        if socket.acks.as_ref().is_some_and(|acks| acks.errors.is_some()) {
            return;
        }
        // The engine awaits nothing, and drops the announcements.
        while let Ok(ErrorQueue::Acked(_) | ErrorQueue::Other) = tcp::next_error(socket.fd()) {}
        self.arm_watch(conn);
    }

    fn sent(&mut self, conn: ConnId, result: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        let Some(outgoing) = self.sends.get_mut(socket.send as usize) else { return };
        socket.ended();
        outgoing.under_way -= 1;
        match -result {
            ..=0 => {
                outgoing.advance(result as usize);
                socket.count_sent(result as usize);
            }
            libc::EINTR | libc::EAGAIN => {}
            _ => outgoing.failed = true,
        }
        if outgoing.under_way > 0 {
            if socket.closing {
                // The send follows another in a chain, and could not be cancelled before that one ended.
                self.ring.cancel(op(Kind::Send, conn));
            }
            return;
        }
        let failed = outgoing.failed;
        if !socket.closing && !failed && !outgoing.rest().is_empty() {
            return self.send_rest(conn, 0);
        }
        let outgoing = self.sends.remove(socket.send as usize);
        socket.send = NO_SEND;
        let is_last = matches!(outgoing.mode, SendMode::Last);
        if let SendMode::Timestamped(message) = outgoing.mode {
            self.send_messages.give_back(message);
        }
        if socket.closing {
            return self.finish_close(conn);
        }
        if failed {
            return self.facts.push_back(Fact::Reset(conn));
        }
        if is_last {
            socket.half_close();
        }
        self.facts.push_back(Fact::Sent(conn));
        if socket.acks.as_mut().is_some_and(|acks| std::mem::take(&mut acks.early)) {
            self.facts.push_back(Fact::Acked(conn));
        }
    }

    /// Handles a check after a send. `unacked_bytes` counts what the peer has not acknowledged, or is a negated
    /// errno. An errno means that the send has failed, or that the kernel is too old for such checks. If the check
    /// finds no acknowledgement, the engine checks again without the ring.
    fn ack_checked(&mut self, conn: ConnId, unacked_bytes: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.checks_under_way -= 1;
        socket.ended();
        let is_stale = socket.stale_checks > 0;
        socket.stale_checks -= u8::from(is_stale);
        if socket.closing {
            return self.finish_close(conn);
        }
        if unacked_bytes < 0 && unacked_bytes != -libc::ECANCELED {
            self.ring_checks_refused = true;
        }
        if is_stale || !socket.awaits_proof {
            return;
        }
        // While a send is under way, the check does not cover its rest.
        if unacked_bytes == 0 && socket.send == NO_SEND {
            self.record_ack(conn, true);
            return self.acknowledged(conn);
        }
        self.check_later(conn, Duration::ZERO);
    }

    fn error_received(&mut self, conn: ConnId, result: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.ended();
        let Some(acks) = &mut socket.acks else { return };
        let Some(message) = acks.errors.take() else { return };
        let error = if result >= 0 { message.read() } else { ErrorQueue::Empty };
        self.error_messages.give_back(message);
        if socket.closing {
            return self.finish_close(conn);
        }
        match error {
            ErrorQueue::Acked(index) if acks.timestamps.awaited == Some(index) => {
                let is_early = socket.send != NO_SEND;
                acks.early = is_early;
                socket.acknowledged();
                if !is_early {
                    self.facts.push_back(Fact::Acked(conn));
                }
            }
            ErrorQueue::Acked(_) | ErrorQueue::Other => {}
            // Either the socket has failed, which the receive reports, or its peer has closed, and the broker
            // probes.
            ErrorQueue::Empty => return,
        }
        self.arm_errors(conn);
        self.arm_watch(conn);
    }
}
