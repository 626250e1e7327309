//! Arms the operations that wait: the waker's poll, receives, watches, error messages.

use super::Uring;
use super::messages::ErrorMessage;
use super::op::{Kind, Op, op};
use super::sockets::NO_SEND;
use crate::broker::io::ConnId;
use crate::engine::fact::Fact;
use crate::engine::kernel_view;
use std::os::fd::AsFd;

impl Uring {
    pub(super) fn arm_waker(&mut self) {
        self.ring.poll(self.waker.as_fd(), libc::POLLIN, true, Op::of_engine(Kind::Wake, 0));
    }

    /// Receives from `conn`, unless a receive is under way, the peer's FIN has arrived or reading is paused.
    pub(super) fn arm_receive(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        if socket.reading && !socket.receiving && !socket.fin {
            socket.receiving = true;
            socket.receive_cancelled = false;
            socket.under_way += 1;
            self.ring.receive(socket.fd(), op(Kind::Receive, conn));
        }
    }

    /// Watches for the peer's FIN or reset when no receive would find it. Either reading is paused, or the FIN has
    /// arrived but not the acknowledgement or reset that follows it. If a paused connection awaits no proof, the
    /// engine reports only a reset: its FIN comes after bytes that the broker has not read.
    pub(super) fn arm_watch(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        if (socket.awaits_proof || !socket.reading) && !socket.receiving && !socket.watching {
            socket.watching = true;
            socket.under_way += 1;
            let events = match socket.awaits_proof && !socket.fin {
                true => libc::POLLRDHUP,
                false => libc::POLLERR | libc::POLLHUP,
            };
            self.ring.poll(socket.fd(), events, false, op(Kind::Watch, conn));
        }
    }

    /// Watches for what the connection's new state asks for.
    pub(super) fn rearm_watch(&mut self, conn: ConnId) {
        match self.sockets.get_open(conn).is_some_and(|socket| socket.watching) {
            // Its completion arms the next one.
            true => self.ring.cancel(op(Kind::Watch, conn)),
            false => self.arm_watch(conn),
        }
    }

    /// Arms what follows an ended receive: the next receive, or a watch if the broker has paused reading. The receive
    /// may have ended for another reason before the cancellation of a pause reached it.
    pub(super) fn receive_or_watch(&mut self, conn: ConnId) {
        self.arm_receive(conn);
        self.arm_watch(conn);
    }

    /// Receives the next message from the error queue of `conn`, unless that is under way.
    pub(super) fn arm_errors(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        let Some(acks) = &mut socket.acks else { return };
        if acks.errors.is_some() || acks.timestamps.awaited.is_none() {
            return;
        }
        let message = acks.errors.insert(self.error_messages.take(ErrorMessage::new)).prepare();
        socket.under_way += 1;
        // SAFETY: the message stays in `acks` until the completion.
        unsafe { self.ring.receive_error(socket.fd(), message, op(Kind::Errors, conn)) };
    }

    /// The number of bytes of `conn` that the engine has not passed to the kernel.
    pub(super) fn unsent(&mut self, conn: ConnId) -> u64 {
        let send = self.sockets.get(conn).map_or(NO_SEND, |socket| socket.send);
        self.sends.get(send as usize).map_or(0, |outgoing| outgoing.rest().len() as u64)
    }

    /// Answers a probe. Call it when no completion is left: a completion may have taken the connection's error.
    pub(super) fn answer_probe(&mut self, conn: ConnId) {
        let unsent = self.unsent(conn);
        if let Some(socket) = self.sockets.get_open(conn) {
            let facts = kernel_view::with_extras(socket.fd(), unsent);
            self.facts.push_back(Fact::Probed { conn, facts });
        }
    }
}
