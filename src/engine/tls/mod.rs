//! TLS over any engine: decrypts what the engine below receives, and encrypts what the broker sends.
//!
//! ```text
//! broker    Received (plaintext)   Sent, Acked, PeerClosed, Probed      Send (plaintext)
//!               ^                      ^                                   v
//! Tls       decrypts records       as they are, but for its own         encrypts: one payload
//!               ^                      ^                                   v
//! engine    Received (records)     Sent, Acked, PeerClosed, Probed      Send (records)
//! ```
//!
//! The layer passes a response to the engine below as one payload: all its records, and before a FIN the
//! close_notify too. So what the kernel reports about it (taken, acknowledged, read) applies to the last byte of
//! the records. A proof of delivery means the same with TLS as without.
//!
//! Invariants:
//! - the engine below has at most one payload of a connection: the broker's, or the layer's own (handshake, alerts).
//!   The layer reports `Sent` for the broker's payloads only;
//! - while a delivery awaits its proof, the layer sends nothing of its own: that would come between the payload
//!   and its proof;
//! - the layer reports bytes only when there is plaintext. To the broker, a connection in its handshake has sent
//!   nothing so far, and the broker's timeout for such connections ends it;
//! - the peer's close_notify is not a byte. If no delivery awaits its proof, the layer reports it as the peer's
//!   FIN. Otherwise only the kernel's view counts, and that comes with the FIN;
//! - the layer keeps at most one incomplete record per connection, and limits the total memory for them;
//! - a session is stored in its connection's slot and ends with the connection's generation.

mod incoming;
mod session;
mod slots;
#[cfg(test)]
mod tests;

use super::fact::Fact;
use super::interface::{Engine, Handshakes, Shortages, Wake};
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::tcp::Remote;
use crate::sys::tls::{Current, Identity};
use slots::{Secure, Slot, UnderWay, User, secure, slot};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The identities of the sides that are served with TLS.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    pub runner: Option<Arc<Identity>>,
    pub dispatch: Option<Arc<Identity>>,
}

impl Identities {
    /// Whether no side is served with TLS.
    pub fn is_empty(&self) -> bool {
        self.runner.is_none() && self.dispatch.is_none()
    }
}

/// An engine with TLS over it.
pub struct Tls<E> {
    inner: E,
    runner: Option<Current>,
    dispatch: Option<Current>,
    slots: Vec<Slot>,
    reports: VecDeque<Report>,
    /// Plaintext that the layer lends to the broker.
    plain: Vec<u8>,
    /// A copy of the received records, which the session decrypts in place.
    records: Vec<u8>,
    /// Memory that all connections own for incomplete records.
    incomplete_bytes: usize,
    incomplete_bytes_max: usize,
    handshakes: Handshakes,
    /// Connections that the layer reset because incomplete records exceeded their limit.
    refused: u64,
}

/// What waits to be reported.
enum Report {
    /// The bytes in `plain`, which came from this connection.
    Bytes(ConnId),
    Fact(Fact),
}

impl<E: Engine> Tls<E> {
    /// TLS over `inner` for the sides that have an identity. Incomplete records of all connections together own at
    /// most `incomplete_bytes_max` bytes.
    pub fn new(inner: E, identities: &Identities, incomplete_bytes_max: usize) -> Tls<E> {
        Tls {
            inner,
            runner: identities.runner.as_ref().map(Current::of),
            dispatch: identities.dispatch.as_ref().map(Current::of),
            slots: Vec::new(),
            reports: VecDeque::new(),
            plain: Vec::new(),
            records: Vec::new(),
            incomplete_bytes: 0,
            incomplete_bytes_max,
            handshakes: Handshakes::default(),
            refused: 0,
        }
    }

    /// `timeout`, or zero if there is something to report.
    fn unless_busy(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.reports.is_empty() { timeout } else { Some(Duration::ZERO) }
    }

    /// Sends what is waiting, if the engine below has no payload of `conn`.
    fn send_waiting(&mut self, conn: ConnId) {
        let Some(secure) = secure(&mut self.slots, conn) else { return };
        if secure.under_way != UnderWay::Nothing {
            return;
        }
        // In the order in which the session encrypted them.
        if !secure.own.is_empty() && !secure.awaits_proof {
            secure.under_way = UnderWay::Own;
            let own = std::mem::take(&mut secure.own);
            return self.inner.send(conn, Payload::Shared(Arc::new(own)), SendConfirm::None);
        }
        if let Some((payload, confirm)) = secure.waiting.take() {
            let last = confirm == SendConfirm::Closed;
            let records = match secure.failed {
                true => None,
                false => secure.session.encrypt(payload.bytes(), last),
            };
            let Some(records) = records else {
                secure.failed = true;
                return self.reports.push_back(Report::Fact(Fact::Reset(conn)));
            };
            secure.under_way = UnderWay::Broker;
            secure.awaits_proof = confirm != SendConfirm::None;
            return self.inner.send(conn, Payload::Shared(Arc::new(records)), confirm);
        }
        if std::mem::take(&mut secure.half_close_due) {
            self.inner.half_close(conn);
        }
    }

    /// Drops the session of a connection that the broker closes or resets.
    fn forget(&mut self, conn: ConnId) -> Option<Box<Secure>> {
        let slot = slot(&mut self.slots, conn)?;
        match std::mem::replace(&mut slot.user, User::Gone) {
            User::Secure(secure) => {
                self.incomplete_bytes -= secure.session.incomplete_bytes();
                Some(secure)
            }
            User::Plain | User::Gone => None,
        }
    }
}

impl<E: Engine> Engine for Tls<E> {
    type Blocker = E::Blocker;

    fn begin(&mut self) -> io::Result<()> {
        self.inner.begin()
    }

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        match &mut slot.user {
            User::Plain => self.inner.send(conn, payload, confirm),
            User::Secure(secure) => {
                // The broker sends again, so the last delivery is settled.
                secure.awaits_proof = false;
                secure.waiting = Some((payload, confirm));
                self.send_waiting(conn);
            }
            User::Gone => {}
        }
    }

    fn pause(&mut self, conn: ConnId) {
        self.inner.pause(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        self.inner.resume(conn);
    }

    fn half_close(&mut self, conn: ConnId) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        let User::Secure(secure) = &mut slot.user else { return self.inner.half_close(conn) };
        if !secure.failed
            && let Some(notify) = secure.session.close_notify()
        {
            secure.own.extend_from_slice(&notify);
        }
        secure.half_close_due = true;
        self.send_waiting(conn);
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(mut secure) = self.forget(conn)
            && secure.under_way == UnderWay::Nothing
            && !secure.failed
            && let Some(notify) = secure.session.close_notify()
        {
            // If the socket has no room for it, the peer gets the FIN without it.
            self.inner.send(conn, Payload::Shared(Arc::new(notify)), SendConfirm::None);
        }
        self.inner.close(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.forget(conn);
        self.inner.abort(conn);
    }

    fn probe(&mut self, conn: ConnId) {
        self.inner.probe(conn);
    }

    fn remote(&mut self, conn: ConnId) -> Option<Remote> {
        self.inner.remote(conn)
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        self.inner.has_unread(conn)
    }

    fn stop_accepting(&mut self) {
        self.inner.stop_accepting();
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(self.inner.flush()? || !self.reports.is_empty())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.unless_busy(timeout);
        self.inner.wait(timeout)
    }

    fn take_blocker(&mut self) -> Option<E::Blocker> {
        self.inner.take_blocker()
    }

    fn block_timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let timeout = self.unless_busy(timeout);
        self.inner.block_timeout(timeout)
    }

    fn after_block(&mut self, blocker: &mut E::Blocker) {
        self.inner.after_block(blocker);
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        let report = loop {
            match self.reports.pop_front() {
                Some(report) => break report,
                None => self.handle_next_fact()?,
            }
        };
        Some(match report {
            Report::Bytes(conn) => Input::Received { conn, bytes: &self.plain },
            Report::Fact(fact) => fact.into_input(),
        })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }

    fn shortages(&self) -> Shortages {
        Shortages { records: self.refused, ..self.inner.shortages() }
    }

    fn handshakes(&self) -> Handshakes {
        self.handshakes
    }
}
