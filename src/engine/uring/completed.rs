//! What becomes of an operation's completion.

use super::Uring;
use super::accept::Failure;
use super::buffers::Received;
use super::op::{Kind, Op};
use super::ring::Completion;
use super::send::Way;
use super::sockets::{NO_SEND, op};
use crate::broker::io::ConnId;
use crate::engine::fact::Fact;
use crate::engine::kernel_view;
use crate::sys::tcp::{self, ErrorQueue};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

impl Uring {
    /// Handles one completion. Bytes are for the core to look at; every other fact is queued.
    pub(super) fn complete(&mut self, completion: Completion) -> Option<Received> {
        let Op { kind, conn } = completion.op;
        match kind {
            Kind::Receive => return self.received(conn, &completion),
            Kind::Send | Kind::Piece => self.sent(conn, completion.result),
            Kind::Errors => self.error_came(conn, completion.result),
            Kind::AckCheck => self.looked(conn, completion.result),
            Kind::Accept => self.accepted(conn.slot as usize, &completion),
            Kind::Watch => self.watched(conn, completion.result),
            Kind::Wake if !completion.more => self.arm_waker(),
            Kind::Wake | Kind::Silent => {}
        }
        None
    }

    fn accepted(&mut self, index: usize, completion: &Completion) {
        let acceptor = &mut self.acceptors[index];
        let side = acceptor.side;
        if !completion.more {
            acceptor.armed = false;
            acceptor.pausing = false;
        }
        if completion.result >= 0 {
            // SAFETY: the kernel has just opened it for us, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
            self.newcomers.push(fd, side);
        } else if acceptor.failed(-completion.result) == Failure::Exhausted {
            self.facts.push_back(Fact::AcceptFailed);
        }
        if !completion.more {
            self.drain_stopped(index);
        }
    }

    /// Takes what the kernel has queued on a listener that accepts no more, and closes it.
    pub(super) fn drain_stopped(&mut self, index: usize) {
        let acceptor = &mut self.acceptors[index];
        if !acceptor.stopping || acceptor.armed {
            return;
        }
        let side = acceptor.side;
        while let Some(taken) = self.acceptors[index].drain_one() {
            if let Ok(fd) = taken {
                self.newcomers.push(fd, side);
            }
        }
    }

    fn received(&mut self, conn: ConnId, completion: &Completion) -> Option<Received> {
        let Some(socket) = self.sockets.get(conn) else {
            debug_assert!(false, "a slot is in use while something is under way on it");
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
                self.go_on(conn);
            }
            return Some(Received { conn, buffer, len: completion.result as usize });
        }
        match -completion.result {
            0 => self.peer_closed(conn),
            libc::ENOBUFS => {
                self.buffers_exhausted += 1;
                self.starved.push_back(conn);
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.go_on(conn),
            _ => self.reset(conn),
        }
        self.unused(completion.buffer)
    }

    /// Tells that `conn` was reset, and first that its response had been acknowledged, if so: between two looks there
    /// is time for both, and what announces the one may come to its end behind what tells of the other.
    fn reset(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        if socket.awaits_ack() && tcp::is_acknowledged(socket.fd()) {
            socket.acknowledged();
            self.facts.push_back(Fact::Acked(conn));
        }
        self.facts.push_back(Fact::Reset(conn));
    }

    /// A receive is over and its connection is not: the next one, or, where the core does not read now, a
    /// watch. Whatever ended it may have come before the cancelling of a pause did.
    pub(super) fn go_on(&mut self, conn: ConnId) {
        self.arm_receive(conn);
        self.arm_watch(conn);
    }

    fn unused(&mut self, buffer: Option<u16>) -> Option<Received> {
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        None
    }

    /// The peer's FIN is here. Where something is unacknowledged the facts rest on the socket's error being there
    /// still: a receive that ends with a FIN has not taken it (tcp(7) hands it out once), and one that has taken
    /// it ends with it, and so does a send; both are told as a reset.
    fn peer_closed(&mut self, conn: ConnId) {
        let unsent = self.unsent(conn);
        let Some(socket) = self.sockets.open_one(conn) else { return };
        socket.fin = true;
        let facts = socket.in_question.then(|| kernel_view::behind_fin(socket.fd(), unsent));
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
            // Cancelled for another, if one is needed still.
            return self.arm_watch(conn);
        }
        if !kernel_view::of(socket.fd(), 0).alive {
            self.reset(conn);
        } else if result & i32::from(libc::POLLRDHUP) != 0 && !socket.fin {
            self.peer_closed(conn);
        } else if result & i32::from(libc::POLLHUP) == 0 {
            self.watch_behind_announcement(conn);
        }
    }

    /// An acknowledgement's announcement ends a watch too (POLLERR). The next one begins when it has been read, or
    /// it would end at once again.
    fn watch_behind_announcement(&mut self, conn: ConnId) {
        self.arm_errors(conn);
        let Some(socket) = self.sockets.open_one(conn) else { return };
        if socket.acks.as_ref().is_some_and(|acks| acks.errors.is_some()) {
            return;
        }
        // Nothing is awaited: they are of no use.
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
                // Behind the first of a chain; not to be found before the first had ended.
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
        let is_last = matches!(outgoing.way, Way::Last);
        if let Way::Stamped(message) = outgoing.way {
            self.messages.give_back(message);
        }
        if socket.closing {
            return self.finish_close(conn);
        }
        if failed {
            return self.facts.push_back(Fact::Reset(conn));
        }
        if is_last {
            socket.shut_down();
        }
        self.facts.push_back(Fact::Sent(conn));
        if socket.acks.as_mut().is_some_and(|acks| std::mem::take(&mut acks.early)) {
            self.facts.push_back(Fact::Acked(conn));
        }
    }

    /// How much was unacknowledged when a send was over, or a negated errno: the send has failed, or the kernel is
    /// older than such looks. What it does not say is looked for without the ring.
    fn looked(&mut self, conn: ConnId, unacked_bytes: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.looking -= 1;
        socket.ended();
        let is_stale = socket.stale_looks > 0;
        socket.stale_looks -= u8::from(is_stale);
        if socket.closing {
            return self.finish_close(conn);
        }
        if unacked_bytes < 0 && unacked_bytes != -libc::ECANCELED {
            self.looks_refused = true;
        }
        if is_stale || !socket.in_question {
            return;
        }
        // Nothing of what is not sent yet.
        if unacked_bytes == 0 && socket.send == NO_SEND {
            self.expect_ack_at_once(conn, true);
            return self.acknowledged(conn);
        }
        self.check_later(conn, Duration::ZERO);
    }

    fn error_came(&mut self, conn: ConnId, result: i32) {
        let Some(socket) = self.sockets.get(conn) else { return };
        socket.ended();
        let Some(acks) = &mut socket.acks else { return };
        let Some(errors) = acks.errors.take() else { return };
        let what = if result >= 0 { errors.read() } else { ErrorQueue::Empty };
        self.errors.give_back(errors);
        if socket.closing {
            return self.finish_close(conn);
        }
        match what {
            ErrorQueue::Acked(index) if acks.stamps.awaited == Some(index) => {
                let is_early = socket.send != NO_SEND;
                acks.early = is_early;
                socket.acknowledged();
                if !is_early {
                    self.facts.push_back(Fact::Acked(conn));
                }
            }
            ErrorQueue::Acked(_) | ErrorQueue::Other => {}
            // The socket has failed, which the receive reports, or its peer has closed, and the core
            // asks for itself.
            ErrorQueue::Empty => return,
        }
        self.arm_errors(conn);
        self.arm_watch(conn);
    }
}
