//! TLS over any engine: what the engine below receives is decrypted on its way up, what the core sends is
//! encrypted on its way down.
//!
//! ```text
//! core      Received (plaintext)   Sent, Acked, PeerClosed, Probed      Send (plaintext)
//!               ^                      ^                                   v
//! Tls       records in             as they are, but for its own         records out: one payload
//!               ^                      ^                                   v
//! engine    Received (records)     Sent, Acked, PeerClosed, Probed      Send (records)
//! ```
//!
//! A response goes down as one payload, all its records and in front of a FIN our close_notify too. So what the
//! kernel says of it (taken, acknowledged, read) it says of the records' last byte, and a proof of delivery
//! means with TLS what it means without.
//!
//! Invariants:
//! - one payload of a connection is under way below: the core's, or the layer's own (handshake, alerts). The
//!   core hears `Sent` for its own only;
//! - while a delivery is in question nothing else goes down: it would stand between the payload and its proof;
//! - the core hears of bytes when there is plaintext: a connection in its handshake is one that has not spoken,
//!   and the timeout of those ends it;
//! - the peer's close_notify is no byte. It is told as its end where nothing is in question; where a delivery
//!   is, the kernel's word counts, and that comes with the FIN;
//! - of one connection at most a record is kept, and of all of a worker's as much as the limit says;
//! - a session lives in the slot of its connection and goes with the generation.

mod session;
#[cfg(test)]
mod tests;

use super::fact::Fact;
use super::{Engine, Handshakes, Shortages, Wake};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm, TcpFacts};
use crate::sys::tcp::Remote;
use crate::sys::tls::{Current, Identity};
use session::{RECORD_BYTES_MAX, Session, Taken};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the layer itself may have to say while something else is under way.
const OWN_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// Which sides are served with TLS.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// Runner side.
    pub runner: Option<Arc<Identity>>,
    /// Supervisor side.
    pub dispatch: Option<Arc<Identity>>,
}

impl Identities {
    /// Every side is plain.
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
    facts: VecDeque<Told>,
    /// Plaintext that is being lent to the core.
    plain: Vec<u8>,
    /// Records of the fact that is being handled.
    records: Vec<u8>,
    /// Bytes of incomplete records that all connections own, and the most that they may.
    incomplete_bytes: usize,
    incomplete_bytes_max: usize,
    handshakes: Handshakes,
    refused: u64,
}

/// Who uses a slot of the engine below.
struct Slot {
    generation: u32,
    user: User,
}

enum User {
    /// Nobody: closed by the core.
    Gone,
    /// A connection without TLS.
    Plain,
    Secure(Box<Secure>),
}

/// A connection with TLS.
struct Secure {
    session: Session,
    /// Whose payload the engine below has.
    under_way: UnderWay,
    /// The core's, waiting for the layer's own.
    waiting: Option<(Payload, SendConfirm)>,
    /// The layer's, encrypted, waiting for the core's.
    own: Vec<u8>,
    /// A delivery's proof is awaited.
    in_question: bool,
    /// The peer's close_notify came meanwhile.
    finished: bool,
    /// Our FIN goes behind what is under way.
    shut_down: bool,
    /// Nothing more can be said or understood.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    Own,
    Core,
}

/// What waits to be told.
enum Told {
    /// `plain`, of this connection.
    Bytes(ConnId),
    Fact(Fact),
}

impl<E: Engine> Tls<E> {
    /// A wait of `timeout` ends at once if there is something to tell.
    fn at_most(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.facts.is_empty() { timeout } else { Some(Duration::ZERO) }
    }

    /// TLS over `inner` for the sides that have an identity. Incomplete records of all connections together own
    /// at most `incomplete_bytes_max` bytes.
    pub fn new(inner: E, identities: &Identities, incomplete_bytes_max: usize) -> Tls<E> {
        Tls {
            inner,
            runner: identities.runner.as_ref().map(Current::of),
            dispatch: identities.dispatch.as_ref().map(Current::of),
            slots: Vec::new(),
            facts: VecDeque::new(),
            plain: Vec::new(),
            records: Vec::new(),
            incomplete_bytes: 0,
            incomplete_bytes_max,
            handshakes: Handshakes::default(),
            refused: 0,
        }
    }

    /// Handles the next fact of the engine below; `None` when its turn is over.
    fn take_in(&mut self) -> Option<()> {
        match self.inner.next_fact()? {
            Input::Received { conn, bytes } => {
                self.plain.clear();
                let Some(slot) = slot(&mut self.slots, conn) else { return Some(()) };
                let secure = match &mut slot.user {
                    User::Secure(secure) if !secure.failed => secure,
                    User::Plain => {
                        self.plain.extend_from_slice(bytes);
                        self.facts.push_back(Told::Bytes(conn));
                        return Some(());
                    }
                    User::Secure(_) | User::Gone => return Some(()),
                };
                let owned = secure.session.incomplete_bytes();
                let was_open = secure.session.is_open();
                let taken = secure.session.take(bytes, &mut self.records, &mut self.plain, &mut secure.own);
                self.incomplete_bytes = self.incomplete_bytes - owned + secure.session.incomplete_bytes();
                self.handshakes.done += u64::from(!was_open && secure.session.is_open());
                let too_much = self.incomplete_bytes > self.incomplete_bytes_max
                    && secure.session.incomplete_bytes() > 0;
                self.refused += u64::from(too_much);
                self.received(conn, taken, too_much);
            }
            Input::Accepted { conn, side } => self.accepted(conn, side),
            Input::Sent { conn } => self.sent(conn),
            Input::Acked { conn } => {
                self.tell(conn, Fact::Acked(conn));
                if let Some(secure) = secure(&mut self.slots, conn) {
                    secure.in_question = false;
                    if std::mem::take(&mut secure.finished) {
                        self.tell(conn, Fact::PeerClosed { conn, facts: None });
                    }
                    self.go_on(conn);
                }
            }
            Input::PeerClosed { conn, facts } => {
                let facts = facts.map(|facts| self.with_waiting(conn, facts));
                self.tell(conn, Fact::PeerClosed { conn, facts });
            }
            Input::Probed { conn, facts } => {
                let facts = self.with_waiting(conn, facts);
                self.tell(conn, Fact::Probed { conn, facts });
            }
            Input::Reset { conn } => self.tell(conn, Fact::Reset(conn)),
            Input::AcceptFailed => self.facts.push_back(Told::Fact(Fact::AcceptFailed)),
            other => debug_assert!(false, "no engine says {other:?}"),
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
                // Out of randomness, or the like.
                self.inner.close(conn);
                return self.facts.push_back(Told::Fact(Fact::AcceptFailed));
            }
        };
        let index = conn.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || Slot { generation: 0, user: User::Gone });
        }
        self.slots[index] = Slot { generation: conn.generation, user };
        self.facts.push_back(Told::Fact(Fact::Accepted { conn, side }));
    }

    /// Tells what came of a connection's bytes, and says what TLS has to say to them.
    fn received(&mut self, conn: ConnId, taken: Taken, too_much: bool) {
        let Some(secure) = secure(&mut self.slots, conn) else { return };
        if !self.plain.is_empty() {
            self.facts.push_back(Told::Bytes(conn));
        }
        if taken == Taken::Finished {
            match secure.in_question {
                false => self.facts.push_back(Told::Fact(Fact::PeerClosed { conn, facts: None })),
                true => secure.finished = true,
            }
        }
        if taken == Taken::Failed || too_much || secure.own.len() > OWN_BYTES_MAX {
            if !secure.session.is_open() {
                self.handshakes.failed += 1;
            }
            secure.failed = true;
            self.incomplete_bytes -= secure.session.give_up();
            self.facts.push_back(Told::Fact(Fact::Reset(conn)));
        }
        self.go_on(conn);
    }

    /// The engine below has sent what it had of `conn`.
    fn sent(&mut self, conn: ConnId) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        match &mut slot.user {
            User::Secure(secure) => {
                let whose = std::mem::replace(&mut secure.under_way, UnderWay::Nothing);
                if whose == UnderWay::Core {
                    self.facts.push_back(Told::Fact(Fact::Sent(conn)));
                }
                self.go_on(conn);
            }
            User::Plain => self.facts.push_back(Told::Fact(Fact::Sent(conn))),
            User::Gone => {}
        }
    }

    /// Sends what waits, if nothing is under way.
    fn go_on(&mut self, conn: ConnId) {
        let Some(secure) = secure(&mut self.slots, conn) else { return };
        if secure.under_way != UnderWay::Nothing {
            return;
        }
        // In the order in which they were encrypted.
        if !secure.own.is_empty() && !secure.in_question {
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
                return self.facts.push_back(Told::Fact(Fact::Reset(conn)));
            };
            secure.under_way = UnderWay::Core;
            secure.in_question = confirm != SendConfirm::None;
            return self.inner.send(conn, Payload::Shared(Arc::new(records)), confirm);
        }
        if std::mem::take(&mut secure.shut_down) {
            self.inner.shutdown(conn);
        }
    }

    /// The kernel has not been given what waits here.
    fn with_waiting(&mut self, conn: ConnId, facts: TcpFacts) -> TcpFacts {
        let waiting = secure(&mut self.slots, conn).and_then(|secure| secure.waiting.as_ref());
        let bytes = waiting.map_or(0, |(payload, _)| payload.bytes().len() as u64);
        TcpFacts { unacked_bytes: facts.unacked_bytes.saturating_add(bytes), ..facts }
    }

    /// Tells a fact of the engine below, unless the core has given the connection up.
    fn tell(&mut self, conn: ConnId, fact: Fact) {
        if slot(&mut self.slots, conn).is_some_and(|slot| !matches!(slot.user, User::Gone)) {
            self.facts.push_back(Told::Fact(fact));
        }
    }

    /// The core gives `conn` up: what was here of it goes.
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

impl Secure {
    fn new(session: Session) -> Secure {
        Secure {
            session,
            under_way: UnderWay::Nothing,
            waiting: None,
            own: Vec::new(),
            in_question: false,
            finished: false,
            shut_down: false,
            failed: false,
        }
    }
}

impl<E: Engine> Engine for Tls<E> {
    type Sleeper = E::Sleeper;

    fn begin(&mut self) -> io::Result<()> {
        self.inner.begin()
    }

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        match &mut slot.user {
            User::Plain => self.inner.send(conn, payload, confirm),
            User::Secure(secure) => {
                // An answer to the last proof that was awaited.
                secure.in_question = false;
                secure.waiting = Some((payload, confirm));
                self.go_on(conn);
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

    fn shutdown(&mut self, conn: ConnId) {
        let Some(slot) = slot(&mut self.slots, conn) else { return };
        let User::Secure(secure) = &mut slot.user else { return self.inner.shutdown(conn) };
        if !secure.failed
            && let Some(notify) = secure.session.close_notify()
        {
            secure.own.extend_from_slice(&notify);
        }
        secure.shut_down = true;
        self.go_on(conn);
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(mut secure) = self.forget(conn)
            && secure.under_way == UnderWay::Nothing
            && !secure.failed
            && let Some(notify) = secure.session.close_notify()
        {
            // As far as there is room for it: nobody waits for it any more.
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
        Ok(self.inner.flush()? || !self.facts.is_empty())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.at_most(timeout);
        self.inner.wait(timeout)
    }

    fn take_blocker(&mut self) -> Option<E::Sleeper> {
        self.inner.take_blocker()
    }

    fn blocks_for(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let timeout = self.at_most(timeout);
        self.inner.blocks_for(timeout)
    }

    fn slept(&mut self, sleeper: &mut E::Sleeper) {
        self.inner.slept(sleeper);
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        let told = loop {
            match self.facts.pop_front() {
                Some(told) => break told,
                None => self.take_in()?,
            }
        };
        Some(match told {
            Told::Bytes(conn) => Input::Received { conn, bytes: &self.plain },
            Told::Fact(fact) => fact.into_input(),
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

/// The slot of `conn`, unless it has passed to another connection.
fn slot(slots: &mut [Slot], conn: ConnId) -> Option<&mut Slot> {
    slots.get_mut(conn.slot as usize).filter(|slot| slot.generation == conn.generation)
}

/// The TLS of `conn`, if it has one.
fn secure(slots: &mut [Slot], conn: ConnId) -> Option<&mut Secure> {
    match slot(slots, conn) {
        Some(Slot { user: User::Secure(secure), .. }) => Some(secure),
        _ => None,
    }
}
