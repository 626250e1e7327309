//! Sends responses. A connection's last response takes its own system call, and so does each response of a turn that
//! brought few completions ([`super::immediate`]). All others go through the ring.

use super::Uring;
use super::messages::SendMessage;
use super::op::{Kind, op};
use super::outgoing::{Outgoing, SendMode};
use crate::broker::io::{ConnId, Payload, SendConfirm};
use crate::engine::fact::Fact;

impl Uring {
    /// Begins to send a response; no other response of `conn` is under way.
    pub(super) fn begin_send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        if confirm != SendConfirm::None {
            self.carry_out_resets();
        }
        match confirm {
            SendConfirm::Closed => self.send_last(conn, payload),
            SendConfirm::None if self.sends_immediately() => self.send_immediately(conn, payload),
            SendConfirm::Acked if self.sends_immediately() => self.send_acked_immediately(conn, payload),
            SendConfirm::None => self.send_by_ring(conn, Outgoing::new(payload, SendMode::Plain), 0),
            SendConfirm::Acked => self.send_acked_by_ring(conn, payload),
        }
    }

    /// Makes the resets go out before a send: the broker may be moving a run from one runner to the next.
    fn carry_out_resets(&mut self) {
        if std::mem::take(&mut self.resets_due) {
            self.ring.carry_out();
        }
    }

    /// Sends `outgoing`, its first `lead_bytes` bytes one by one.
    pub(super) fn send_by_ring(&mut self, conn: ConnId, outgoing: Outgoing, lead_bytes: u8) {
        let send = self.sends.insert(outgoing);
        if let Some(socket) = self.sockets.get_open(conn) {
            socket.send = send as u32;
        }
        self.send_rest(conn, lead_bytes);
    }

    /// Sends a response whose acknowledgement the engine must report. The engine checks after the send for an
    /// acknowledgement that it expects immediately; otherwise the kernel announces it.
    fn send_acked_by_ring(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        let checked = !self.ring_checks_refused && self.ack_expectation.is_immediate(socket.last_ack());
        let begun = socket.begin_acked(payload.bytes().len(), checked);
        let Ok(lead_bytes) = begun else { return self.facts.push_back(Fact::Reset(conn)) };
        let mode = match checked {
            true => SendMode::Checked,
            false => SendMode::Timestamped(self.send_messages.take(SendMessage::new)),
        };
        self.send_by_ring(conn, Outgoing::new(payload, mode), lead_bytes);
        if !checked {
            self.arm_errors(conn);
        }
    }

    /// Sends a connection's last response: as much as there is room for immediately, the rest through the ring.
    fn send_last(&mut self, conn: ConnId, payload: Payload) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        match socket.send_last(payload.bytes()) {
            Ok(count) if count == payload.bytes().len() => self.facts.push_back(Fact::Sent(conn)),
            Ok(count) => {
                let mut outgoing = Outgoing::new(payload, SendMode::Last);
                outgoing.advance(count);
                self.send_by_ring(conn, outgoing, 0);
            }
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    /// Sends the rest of the response of `conn`, its first `lead_bytes` bytes one by one.
    pub(super) fn send_rest(&mut self, conn: ConnId, lead_bytes: u8) {
        let Some(socket) = self.sockets.get(conn) else { return };
        let Some(outgoing) = self.sends.get_mut(socket.send as usize) else { return };
        outgoing.under_way = lead_bytes + 1;
        socket.under_way += lead_bytes + 1;
        let rest = outgoing.rest();
        // SAFETY: the payload and the message stay in `sends` until the last completion.
        unsafe {
            match &outgoing.mode {
                SendMode::Plain => {
                    self.ring.send(socket.fd(), rest.as_ptr(), rest.len(), op(Kind::Send, conn))
                }
                SendMode::Last => {
                    self.ring.send_held(socket.fd(), rest.as_ptr(), rest.len(), op(Kind::Send, conn));
                }
                SendMode::Timestamped(message) => {
                    let header = message.of(&rest[lead_bytes.into()..]);
                    self.ring.send_message(socket.fd(), rest.as_ptr(), lead_bytes, header, conn);
                }
                SendMode::Checked => {
                    socket.checks_under_way += 1;
                    socket.under_way += 1;
                    self.ring.send_and_check(socket.fd(), rest.as_ptr(), rest.len(), lead_bytes, conn);
                    // The rest of a short send needs no check: this check finds that rest unacknowledged.
                    outgoing.mode = SendMode::Plain;
                }
            }
        }
    }
}
