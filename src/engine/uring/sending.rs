//! Responses to the kernel: through the ring; a connection's last at once, and those of a turn that brought little
//! ([`super::at_once`]).

use super::Uring;
use super::op::Kind;
use super::send::{Message, Outgoing, Way};
use super::sockets::op;
use crate::broker::io::{ConnId, Payload, SendConfirm};
use crate::engine::fact::Fact;

impl Uring {
    /// Begins to send a response; nothing of another is on its way.
    pub(super) fn begin_send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        if confirm != SendConfirm::None {
            self.carry_out_resets();
        }
        match confirm {
            SendConfirm::Closed => self.send_last(conn, payload),
            SendConfirm::None if self.sends_at_once() => self.send_at_once(conn, payload),
            SendConfirm::Acked if self.sends_at_once() => self.send_acked_at_once(conn, payload),
            SendConfirm::None => self.send_behind(conn, Outgoing::new(payload, Way::Plain), 0),
            SendConfirm::Acked => self.send_acked_behind(conn, payload),
        }
    }

    /// A run may be on its way from one runner to the next: the reset leaves before it.
    fn carry_out_resets(&mut self) {
        if std::mem::take(&mut self.resets_due) {
            self.ring.carry_out();
        }
    }

    /// Sends `outgoing`, behind `pieces` single bytes of it.
    pub(super) fn send_behind(&mut self, conn: ConnId, outgoing: Outgoing, pieces: u8) {
        let index = self.sends.insert(outgoing);
        if let Some(socket) = self.sockets.open_one(conn) {
            socket.send = index as u32;
        }
        self.send_rest(conn, pieces);
    }

    /// Sends a response whose acknowledgement is to be reported: looked for behind the send where the last one was
    /// there at once, announced elsewhere.
    fn send_acked_behind(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        let checked = !self.looks_refused && socket.expects_ack_at_once(self.acks_at_once);
        let begun = socket.begin_acked(payload.bytes().len(), checked);
        let Ok(pieces) = begun else { return self.facts.push_back(Fact::Reset(conn)) };
        let way = match checked {
            true => Way::LookedFor,
            false => Way::Stamped(self.messages.take(Message::new)),
        };
        self.send_behind(conn, Outgoing::new(payload, way), pieces);
        if !checked {
            self.arm_errors(conn);
        }
    }

    /// Sends a connection's last response: at once as far as there is room for it, the rest when there is.
    fn send_last(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        match socket.send_last(payload.bytes()) {
            Ok(count) if count == payload.bytes().len() => self.facts.push_back(Fact::Sent(conn)),
            Ok(count) => {
                let mut outgoing = Outgoing::new(payload, Way::Last);
                outgoing.advance(count);
                self.send_behind(conn, outgoing, 0);
            }
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    /// Sends what is left of the response of `conn`, behind `pieces` single bytes of it.
    pub(super) fn send_rest(&mut self, conn: ConnId, pieces: u8) {
        let Some(socket) = self.sockets.get(conn) else { return };
        let Some(outgoing) = self.sends.get_mut(socket.send as usize) else { return };
        outgoing.under_way = pieces + 1;
        socket.under_way += pieces + 1;
        let rest = outgoing.rest();
        // SAFETY: the payload, and the message, stand in `sends` until the last completion.
        unsafe {
            match &outgoing.way {
                Way::Plain => self.ring.send(socket.fd(), rest.as_ptr(), rest.len(), op(Kind::Send, conn)),
                Way::Last => {
                    self.ring.send_held(socket.fd(), rest.as_ptr(), rest.len(), op(Kind::Send, conn));
                }
                Way::Stamped(message) => {
                    let header = message.of(&rest[pieces.into()..]);
                    self.ring.send_message(socket.fd(), rest.as_ptr(), pieces, header, conn);
                }
                Way::LookedFor => {
                    socket.looking += 1;
                    socket.under_way += 1;
                    self.ring.send_and_look(socket.fd(), rest.as_ptr(), rest.len(), pieces, conn);
                    // What does not fit now goes by itself: one look is enough to find that it is not acknowledged.
                    outgoing.way = Way::Plain;
                }
            }
        }
    }
}
