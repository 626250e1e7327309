//! The end of a connection: cancels its operations, closes the descriptor, frees the slot.

use super::Uring;
use super::op::{Kind, op};
use crate::broker::io::ConnId;

impl Uring {
    /// Begins to close `conn`: cancels its operations and closes the descriptor after them.
    pub(super) fn begin_close(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        socket.closing = true;
        if socket.receiving && !socket.receive_cancelled {
            self.ring.cancel(op(Kind::Receive, conn));
        }
        if socket.watching {
            self.ring.cancel(op(Kind::Watch, conn));
        }
        if socket.acks.as_ref().is_some_and(|acks| acks.errors.is_some()) {
            self.ring.cancel(op(Kind::Errors, conn));
        }
        if let Some(outgoing) = self.sends.get(socket.send as usize) {
            if outgoing.under_way > 1 {
                // The first of a chain; the kernel cancels those after it.
                self.ring.cancel(op(Kind::LeadByte, conn));
            }
            self.ring.cancel(op(Kind::Send, conn));
        }
        if let Some(fd) = socket.release_fd() {
            self.ring.close(fd);
        }
        self.finish_close(conn);
    }

    /// Frees the slot of a connection that is closing, once none of its operations is under way.
    pub(super) fn finish_close(&mut self, conn: ConnId) {
        let done = self.sockets.get(conn).is_some_and(|socket| socket.closing && socket.under_way == 0);
        if done && let Some(fd) = self.sockets.free(conn) {
            self.ring.close(fd);
        }
    }
}
