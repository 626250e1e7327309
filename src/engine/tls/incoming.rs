//! Handles facts from the engine below, and decides what the layer reports.

use super::session::{Processed, RECORD_BYTES_MAX, Session};
use super::slots::{Secure, Slot, UnderWay, User, secure, slot};
use super::{Report, Tls};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, TcpFacts};
use crate::engine::fact::Fact;
use crate::engine::interface::Engine;

/// The most bytes of its own that the layer keeps while another payload is under way.
const OWN_BYTES_MAX: usize = RECORD_BYTES_MAX;

impl<E: Engine> Tls<E> {
    /// Handles the next fact of the engine below; `None` when its turn is over.
    pub(super) fn handle_next_fact(&mut self) -> Option<()> {
        match self.inner.next_fact()? {
            Input::Received { conn, bytes } => {
                self.plain.clear();
                let Some(slot) = slot(&mut self.slots, conn) else { return Some(()) };
                let secure = match &mut slot.user {
                    User::Secure(secure) if !secure.failed => secure,
                    User::Plain => {
                        self.plain.extend_from_slice(bytes);
                        self.reports.push_back(Report::Bytes(conn));
                        return Some(());
                    }
                    User::Secure(_) | User::Gone => return Some(()),
                };
                let owned = secure.session.incomplete_bytes();
                let was_open = secure.session.is_open();
                let processed =
                    secure.session.receive(bytes, &mut self.records, &mut self.plain, &mut secure.own);
                self.incomplete_bytes = self.incomplete_bytes - owned + secure.session.incomplete_bytes();
                self.handshakes.done += u64::from(!was_open && secure.session.is_open());
                let too_much = self.incomplete_bytes > self.incomplete_bytes_max
                    && secure.session.incomplete_bytes() > 0;
                self.refused += u64::from(too_much);
                self.received(conn, processed, too_much);
            }
            Input::Accepted { conn, side } => self.accepted(conn, side),
            Input::Sent { conn } => self.sent(conn),
            Input::Acked { conn } => {
                self.report(conn, Fact::Acked(conn));
                if let Some(secure) = secure(&mut self.slots, conn) {
                    secure.awaits_proof = false;
                    if std::mem::take(&mut secure.finished) {
                        self.report(conn, Fact::PeerClosed { conn, facts: None });
                    }
                    self.send_waiting(conn);
                }
            }
            Input::PeerClosed { conn, facts } => {
                let facts = facts.map(|facts| self.with_waiting(conn, facts));
                self.report(conn, Fact::PeerClosed { conn, facts });
            }
            Input::Probed { conn, facts } => {
                let facts = self.with_waiting(conn, facts);
                self.report(conn, Fact::Probed { conn, facts });
            }
            Input::Reset { conn } => self.report(conn, Fact::Reset(conn)),
            Input::AcceptFailed => self.reports.push_back(Report::Fact(Fact::AcceptFailed)),
            other => debug_assert!(false, "no engine reports {other:?}"),
        }
        Some(())
    }

    fn accepted(&mut self, conn: ConnId, side: Side) {
        let current = match side {
            Side::Runner => &mut self.runner,
            Side::Dispatch => &mut self.dispatch,
        };
        let user = match current.as_mut().map(|current| Session::new(current.config())) {
            None => User::Plain,
            Some(Ok(session)) => User::Secure(Box::new(Secure::new(session))),
            Some(Err(_)) => {
                // For example, the system has no randomness.
                self.inner.close(conn);
                return self.reports.push_back(Report::Fact(Fact::AcceptFailed));
            }
        };
        let at = conn.slot as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || Slot { generation: 0, user: User::Gone });
        }
        self.slots[at] = Slot { generation: conn.generation, user };
        self.reports.push_back(Report::Fact(Fact::Accepted { conn, side }));
    }

    /// Reports what a connection's bytes contained, and sends the answers of TLS to them.
    fn received(&mut self, conn: ConnId, processed: Processed, too_much: bool) {
        let Some(secure) = secure(&mut self.slots, conn) else { return };
        if !self.plain.is_empty() {
            self.reports.push_back(Report::Bytes(conn));
        }
        if processed == Processed::PeerFinished {
            match secure.awaits_proof {
                false => self.reports.push_back(Report::Fact(Fact::PeerClosed { conn, facts: None })),
                true => secure.finished = true,
            }
        }
        if processed == Processed::Failed || too_much || secure.own.len() > OWN_BYTES_MAX {
            if !secure.session.is_open() {
                self.handshakes.failed += 1;
            }
            secure.failed = true;
            self.incomplete_bytes -= secure.session.drop_incomplete();
            self.reports.push_back(Report::Fact(Fact::Reset(conn)));
        }
        self.send_waiting(conn);
    }

    /// The engine below has sent the payload of `conn`.
    fn sent(&mut self, conn: ConnId) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        match &mut slot.user {
            User::Secure(secure) => {
                let sent = std::mem::replace(&mut secure.under_way, UnderWay::Nothing);
                if sent == UnderWay::Broker {
                    self.reports.push_back(Report::Fact(Fact::Sent(conn)));
                }
                self.send_waiting(conn);
            }
            User::Plain => self.reports.push_back(Report::Fact(Fact::Sent(conn))),
            User::Gone => {}
        }
    }

    /// Counts a waiting payload as unacknowledged: the kernel has not received it.
    fn with_waiting(&mut self, conn: ConnId, facts: TcpFacts) -> TcpFacts {
        let waiting = secure(&mut self.slots, conn).and_then(|secure| secure.waiting.as_ref());
        let bytes = waiting.map_or(0, |(payload, _)| payload.bytes().len() as u64);
        TcpFacts { unacked_bytes: facts.unacked_bytes.saturating_add(bytes), ..facts }
    }

    /// Reports a fact of the engine below, unless the broker has closed or reset the connection.
    fn report(&mut self, conn: ConnId, fact: Fact) {
        if slot(&mut self.slots, conn).is_some_and(|slot| !matches!(slot.user, User::Gone)) {
            self.reports.push_back(Report::Fact(fact));
        }
    }
}
