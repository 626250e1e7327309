//! The engine below the production worker: completions over the simulated sockets.
//!
//! It keeps the trait's promises and no others. Reads and writes fall short, events of one connection
//! overtake those of another, and a fact about an earlier user of a slot arrives late.

use super::net::{End, Life, LinkId, Net, Us};
use super::oracle::Oracle;
use super::plan::Plan;
use super::rng::Rng;
use super::world::Shared;
use pilotlight::broker::contract::Side;
use pilotlight::broker::io::{ConnId, Input, Payload, SendConfirm, TcpFacts};
use pilotlight::engine::{Engine, NeverBlocks, Wake};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

struct Conn {
    link: LinkId,
    generation: u32,
    paused: bool,
    out: Option<Outgoing>,
    /// The kernel accepted the whole payload; `Sent` is not reported yet.
    sent_unreported: bool,
    in_question: bool,
    /// Stream offset: `Acked` is reported once the peer has acknowledged it.
    await_ack: Option<u64>,
    fin_reported: bool,
    reset_reported: bool,
    /// A query has consumed the socket's error; the next query finds none.
    error_taken: bool,
    /// The engine holds back its events until this time.
    held_until: Us,
    held_back: bool,
}

struct Outgoing {
    payload: Payload,
    at: usize,
    confirm: SendConfirm,
}

#[derive(Clone)]
enum Fact {
    Accepted(ConnId, Side),
    AcceptFailed,
    Bytes(ConnId, Vec<u8>),
    Sent(ConnId),
    Acked(ConnId),
    Fin(ConnId, Option<TcpFacts>),
    Reset(ConnId),
    Probed(ConnId, TcpFacts),
}

/// One worker's sockets, and the facts about them that are not reported yet.
#[derive(Default)]
pub struct Sockets {
    worker: usize,
    conns: Vec<Option<Conn>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    by_link: Vec<Option<u32>>,
    /// Slots that may have events.
    ready: BTreeSet<u32>,
    /// The slots of this turn.
    batch: Vec<u32>,
    accepts_left: u64,
    accept_again_at: Us,
    facts: VecDeque<Fact>,
    /// Facts of connections that have ended.
    stale: Vec<Fact>,
}

const HELD_BACK_MAX_US: Us = 2_000;
const ACCEPT_AGAIN_US: Us = 50_000;

impl Sockets {
    pub fn new(worker: usize) -> Sockets {
        Sockets { worker, ..Sockets::default() }
    }

    /// The kernel's state of a link's broker end changed.
    pub fn mark_ready(&mut self, link: LinkId) {
        if let Some(slot) = self.slot_of(link) {
            self.ready.insert(slot);
        }
    }

    fn slot_of(&self, link: LinkId) -> Option<u32> {
        self.by_link.get(link).copied().flatten()
    }

    /// When the next fact is due. `None`: only another event can lead to one.
    pub fn ready_at(&self, net: &Net) -> Option<Us> {
        let now = !self.facts.is_empty() || !self.stale.is_empty() || !self.batch.is_empty();
        let held = self.ready.iter().filter_map(|slot| self.conns[*slot as usize].as_ref());
        let held = held.map(|conn| conn.held_until).min();
        let accept = (!net.backlog[self.worker].is_empty()).then_some(self.accept_again_at);
        [now.then_some(0), held, accept].into_iter().flatten().min().map(|at| at.max(net.now))
    }

    /// The connection may have events that the worker has not received yet.
    fn holds_back(&self, link: LinkId) -> bool {
        self.slot_of(link).is_some_and(|slot| self.ready.contains(&slot) || self.batch.contains(&slot))
    }

    /// Links that the worker does not read from.
    pub fn paused(&self) -> Vec<LinkId> {
        self.conns.iter().flatten().filter(|conn| conn.paused).map(|conn| conn.link).collect()
    }

    /// Draws which connections report in this turn, and in which order.
    pub fn start(&mut self, net: &mut Net, plan: &Plan) {
        let faults = &plan.faults;
        self.accepts_left = net.rng.range(1, 8);
        for slot in std::mem::take(&mut self.ready) {
            let Some(conn) = &mut self.conns[slot as usize] else { continue };
            if conn.held_until > net.now {
                self.ready.insert(slot);
            } else if !conn.held_back && net.rng.chance(faults.held_back) {
                net.tally.count("fault: a connection's events arrive after those of others");
                conn.held_back = true;
                conn.held_until = net.now + net.rng.below(HELD_BACK_MAX_US);
                self.ready.insert(slot);
            } else {
                conn.held_back = false;
                self.batch.push(slot);
            }
        }
        shuffle(&mut self.batch, &mut net.rng);
        // Stale facts arrive at any time.
        for index in (0..self.stale.len()).rev() {
            if net.rng.chance(0.5) {
                let fact = self.stale.swap_remove(index);
                let at = net.rng.index(self.facts.len() + 1);
                self.facts.insert(at, fact);
            }
        }
    }

    fn accept(&mut self, net: &mut Net, plan: &Plan) -> Option<Fact> {
        if self.accepts_left == 0 || net.now < self.accept_again_at {
            return None;
        }
        let link = *net.backlog[self.worker].front()?;
        self.accepts_left -= 1;
        if net.rng.chance(plan.faults.accept_fails) {
            net.tally.count("fault: an accept fails");
            self.accept_again_at = net.now + ACCEPT_AGAIN_US;
            return Some(Fact::AcceptFailed);
        }
        net.backlog[self.worker].pop_front();
        if net.socket(link, End::Broker).dead && net.rng.chance(0.5) {
            // accept(2) reports an error that ended the new connection.
            net.close(link, End::Broker);
            return self.accept(net, plan);
        }
        Some(self.admit(link, net))
    }

    fn admit(&mut self, link: LinkId, net: &mut Net) -> Fact {
        let slot = match self.free.len() {
            0 => {
                self.conns.push(None);
                self.generations.push(0);
                self.conns.len() as u32 - 1
            }
            // Usually the last slot freed, as in a slab.
            len if net.rng.chance(0.8) => self.free.remove(len - 1),
            len => self.free.remove(net.rng.index(len)),
        };
        self.generations[slot as usize] += 1;
        let generation = self.generations[slot as usize];
        self.conns[slot as usize] = Some(Conn {
            link,
            generation,
            paused: false,
            out: None,
            sent_unreported: false,
            in_question: false,
            await_ack: None,
            fin_reported: false,
            reset_reported: false,
            error_taken: false,
            held_until: 0,
            held_back: false,
        });
        if self.by_link.len() <= link {
            self.by_link.resize(link + 1, None);
        }
        self.by_link[link] = Some(slot);
        self.ready.insert(slot);
        Fact::Accepted(ConnId { slot, generation }, net.links[link].side)
    }

    fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize)?.as_mut().filter(|conn| conn.generation == id.generation)
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generations[slot as usize] }
    }

    /// The next fact of this turn, stale ones included.
    fn next(&mut self, net: &mut Net, plan: &Plan) -> Option<Fact> {
        loop {
            if let Some(fact) = self.facts.pop_front() {
                return Some(fact);
            }
            if let Some(fact) = self.accept(net, plan) {
                return Some(fact);
            }
            let slot = self.batch.pop()?;
            if let Some(fact) = self.advance(slot, net, plan) {
                // There may be more facts, in this turn or in the next.
                if net.rng.chance(0.5) {
                    let at = net.rng.index(self.batch.len() + 1);
                    self.batch.insert(at, slot);
                } else {
                    self.ready.insert(slot);
                }
                return Some(fact);
            }
        }
    }

    /// One fact about a connection, if there is one.
    fn advance(&mut self, slot: u32, net: &mut Net, plan: &Plan) -> Option<Fact> {
        let id = self.id(slot);
        let conn = self.conns[slot as usize].as_mut()?;
        let link = conn.link;
        if conn.reset_reported {
            return None;
        }
        let socket = net.socket(link, End::Broker);
        let settled = conn.out.is_none() && !conn.sent_unreported && !conn.fin_reported;
        if socket.dead && socket.peer_fin && conn.in_question && settled && net.rng.chance(0.5) {
            // The engine saw the FIN, and the reset arrived before it queried the kernel.
            conn.fin_reported = true;
            conn.in_question = false;
            return Some(Fact::Fin(id, Some(facts(conn, net))));
        }
        let socket = net.socket(link, End::Broker);
        // Most engines see the error first; a completion may carry bytes read before it.
        if socket.dead && (socket.queue.is_empty() || conn.paused || net.rng.chance(0.7)) {
            conn.reset_reported = true;
            if conn.error_taken && net.rng.chance(0.5) {
                // A read finds the end of the stream in place of the error.
                let facts = std::mem::take(&mut conn.in_question).then(|| facts(conn, net));
                return Some(Fact::Fin(id, facts));
            }
            return Some(Fact::Reset(id));
        }
        if conn.out.is_some()
            && let Some(fact) = self.write_on(id, net, plan)
        {
            return Some(fact);
        }
        let conn = self.conns[slot as usize].as_mut()?;
        if conn.sent_unreported {
            conn.sent_unreported = false;
            return Some(Fact::Sent(id));
        }
        let socket = net.socket(link, End::Broker);
        if conn.await_ack.is_some_and(|upto| !socket.dead && socket.acked >= upto) {
            conn.await_ack = None;
            if !net.rng.chance(plan.faults.ack_unannounced) {
                conn.in_question = false;
                return Some(Fact::Acked(id));
            }
            net.tally.count("fault: an acknowledgement is never announced");
        }
        let socket = net.socket(link, End::Broker);
        let fin = socket.peer_fin && !conn.fin_reported && !socket.dead;
        if fin && (conn.in_question || (!conn.paused && socket.queue.is_empty())) {
            conn.fin_reported = true;
            let facts = std::mem::take(&mut conn.in_question).then(|| facts(conn, net));
            return Some(Fact::Fin(id, facts));
        }
        if conn.paused || socket.queue.is_empty() || conn.fin_reported {
            return None;
        }
        let available = socket.queue.len().min(SCRATCH_BYTES);
        let count = match net.rng.chance(plan.faults.partial) {
            true => 1 + net.rng.magnitude(available as u64 - 1) as usize,
            false => available,
        };
        if count < available {
            net.tally.count("fault: a read falls short");
        }
        let mut bytes = Vec::with_capacity(count);
        net.read(link, End::Broker, count, &mut bytes);
        Some(Fact::Bytes(id, bytes))
    }

    fn write_on(&mut self, id: ConnId, net: &mut Net, plan: &Plan) -> Option<Fact> {
        let conn = self.get(id)?;
        let mut out = conn.out.take()?;
        let rest = &out.payload.bytes()[out.at..];
        let mut count = rest.len();
        if net.rng.chance(plan.faults.partial) {
            count = (1 + net.rng.magnitude(rest.len() as u64 - 1) as usize).min(count);
        }
        let Some(taken) = net.write(conn.link, End::Broker, &rest[..count]) else {
            conn.reset_reported = true;
            return Some(Fact::Reset(id));
        };
        out.at += taken;
        if out.at < out.payload.bytes().len() {
            net.tally.count("fault: a write falls short");
            conn.out = Some(out);
            if taken == count {
                self.ready.insert(id.slot);
            }
            return None;
        }
        conn.sent_unreported = true;
        if out.confirm == SendConfirm::Closed {
            net.shutdown(conn.link, End::Broker);
        }
        let end = net.socket(conn.link, End::Broker).out.len() as u64;
        conn.await_ack = (out.confirm == SendConfirm::Acked).then_some(end);
        self.ready.insert(id.slot);
        if net.rng.chance(0.7) {
            self.batch.push(id.slot);
        }
        None
    }

    /// Forgets a connection. Sometimes one of its facts stays and arrives later as a stale one.
    fn drop_conn(&mut self, id: ConnId, net: &mut Net, plan: &Plan) -> Option<LinkId> {
        let link = self.get(id)?.link;
        self.conns[id.slot as usize] = None;
        self.by_link[link] = None;
        self.free.push(id.slot);
        self.ready.remove(&id.slot);
        self.batch.retain(|slot| *slot != id.slot);
        let own = |fact: &Fact| fact.conn() == Some(id);
        self.facts.retain(|fact| !own(fact));
        if net.rng.chance(plan.faults.stale) {
            let healthy = TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 1, fin: true };
            let fact = match net.rng.below(7) {
                0 => Fact::Bytes(id, b"GET /connect HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
                1 => Fact::Sent(id),
                2 => Fact::Acked(id),
                3 => Fact::Fin(id, Some(healthy)),
                4 => Fact::Fin(id, None),
                5 => Fact::Reset(id),
                _ => Fact::Probed(id, healthy),
            };
            self.stale.push(fact);
        }
        Some(link)
    }

    fn report(&self, fact: &Fact, oracle: &mut Oracle, now: Us, net: &Net) {
        let Some(id) = fact.conn() else { return };
        let conn = self.conns.get(id.slot as usize).and_then(Option::as_ref);
        let Some(conn) = conn.filter(|conn| conn.generation == id.generation) else {
            oracle.tally.count("fault: a fact about a connection that has ended");
            return oracle.trace.say(net.now, || {
                format!("worker {}: a fact about a connection that has ended", self.worker)
            });
        };
        let link = conn.link;
        let (worker, text) = (self.worker, fact.text());
        oracle.trace.say(net.now, || format!("worker {worker}, link {link}: {text}"));
        match fact {
            Fact::Accepted(..) => oracle.on_accepted(worker, link, now),
            Fact::AcceptFailed => {}
            Fact::Bytes(_, bytes) => oracle.on_bytes(link, bytes.len(), now, net),
            Fact::Sent(_) => oracle.on_sent(link, now, net),
            Fact::Acked(_) => oracle.on_acked(link, now, net),
            Fact::Fin(_, facts) => oracle.on_fin(link, *facts, now, net),
            Fact::Reset(_) => oracle.on_reset(link),
            Fact::Probed(_, facts) => oracle.on_facts(link, *facts, now, net),
        }
    }
}

impl Fact {
    fn conn(&self) -> Option<ConnId> {
        match self {
            Fact::AcceptFailed => None,
            Fact::Accepted(id, _)
            | Fact::Bytes(id, _)
            | Fact::Sent(id)
            | Fact::Acked(id)
            | Fact::Fin(id, _)
            | Fact::Reset(id)
            | Fact::Probed(id, _) => Some(*id),
        }
    }

    fn text(&self) -> String {
        match self {
            Fact::Accepted(_, side) => format!("accepted ({side:?})"),
            Fact::AcceptFailed => "accept failed".into(),
            Fact::Bytes(_, bytes) => format!("{} bytes", bytes.len()),
            Fact::Sent(_) => "sent".into(),
            Fact::Acked(_) => "acknowledged".into(),
            Fact::Fin(_, None) => "FIN".into(),
            Fact::Fin(_, Some(facts)) => format!("FIN, {facts:?}"),
            Fact::Reset(_) => "reset".into(),
            Fact::Probed(_, facts) => format!("{facts:?}"),
        }
    }
}

fn facts(conn: &mut Conn, net: &Net) -> TcpFacts {
    let socket = net.socket(conn.link, End::Broker);
    let alive = !socket.dead || std::mem::replace(&mut conn.error_taken, true);
    let pending = conn.out.as_ref().map_or(0, |out| (out.payload.bytes().len() - out.at) as u64);
    let rtt_us = 2 * net.links[conn.link].wire.delay as u32;
    TcpFacts { alive, unacked_bytes: socket.unacked() + pending, rtt_us, fin: socket.peer_fin }
}

fn shuffle(slots: &mut [u32], rng: &mut Rng) {
    for last in (1..slots.len()).rev() {
        slots.swap(last, rng.index(last + 1));
    }
}

const SCRATCH_BYTES: usize = 64 * 1024;

/// The worker's handle to its sockets.
pub struct SimEngine {
    pub worker: usize,
    pub shared: Shared,
    /// The bytes that the worker is reading.
    pub scratch: Vec<u8>,
}

impl SimEngine {
    fn with<T>(&mut self, act: impl FnOnce(&mut Sockets, &mut Net, &Plan, &mut Oracle, Us) -> T) -> T {
        let sim = &mut *self.shared.borrow_mut();
        let now = sim.turn_now;
        act(&mut sim.sockets[self.worker], &mut sim.net, &sim.plan, &mut sim.oracle, now)
    }
}

impl Engine for SimEngine {
    type Blocker = NeverBlocks;

    fn send(&mut self, id: ConnId, payload: Payload, confirm: SendConfirm) {
        self.with(|sockets, net, plan, oracle, now| {
            let Some(conn) = sockets.get(id) else {
                return oracle.fail("the worker sends on a connection that has ended");
            };
            if conn.out.is_some() || conn.sent_unreported {
                return oracle.fail("two sends are in progress on one connection");
            }
            oracle.sends(conn.link, payload.bytes(), now, net);
            conn.in_question = confirm != SendConfirm::None;
            conn.out = Some(Outgoing { payload, at: 0, confirm });
            if let Some(fact) = sockets.write_on(id, net, plan) {
                sockets.facts.push_back(fact);
            }
        });
    }

    fn pause(&mut self, id: ConnId) {
        self.with(|sockets, _, _, oracle, _| match sockets.get(id) {
            Some(conn) => conn.paused = true,
            None => oracle.fail("the worker pauses a connection that has ended"),
        });
    }

    fn resume(&mut self, id: ConnId) {
        self.with(|sockets, _, _, oracle, _| {
            match sockets.get(id) {
                Some(conn) => conn.paused = false,
                None => oracle.fail("the worker resumes a connection that has ended"),
            }
            sockets.ready.insert(id.slot);
        });
    }

    fn half_close(&mut self, id: ConnId) {
        self.with(|sockets, net, _, oracle, _| match sockets.get(id) {
            Some(conn) => net.shutdown(conn.link, End::Broker),
            None => oracle.fail("the worker half-closes a connection that has ended"),
        });
    }

    fn close(&mut self, id: ConnId) {
        self.with(|sockets, net, plan, oracle, now| match sockets.drop_conn(id, net, plan) {
            Some(link) => {
                oracle.trace.say(net.now, || format!("worker {} closes link {link}", sockets.worker));
                oracle.closes(link, false, false, now, net);
                net.close(link, End::Broker);
            }
            None => oracle.fail("the worker closes a connection that has ended"),
        });
    }

    fn abort(&mut self, id: ConnId) {
        self.with(|sockets, net, plan, oracle, now| {
            let held_back =
                sockets.get(id).map(|conn| conn.link).is_some_and(|link| sockets.holds_back(link));
            match sockets.drop_conn(id, net, plan) {
                Some(link) => {
                    oracle.trace.say(net.now, || format!("worker {} resets link {link}", sockets.worker));
                    oracle.closes(link, true, held_back, now, net);
                    net.abort(link, End::Broker);
                }
                None => oracle.fail("the worker resets a connection that has ended"),
            }
        });
    }

    fn probe(&mut self, id: ConnId) {
        self.with(|sockets, net, _, oracle, _| match sockets.get(id) {
            Some(conn) => {
                oracle.probes(conn.link);
                let facts = facts(conn, net);
                sockets.facts.push_back(Fact::Probed(id, facts));
            }
            None => oracle.fail("the worker probes a connection that has ended"),
        });
    }

    fn has_unread(&mut self, id: ConnId) -> bool {
        self.with(|sockets, net, _, oracle, _| match sockets.get(id) {
            Some(conn) => !net.socket(conn.link, End::Broker).queue.is_empty(),
            None => {
                oracle.fail("the worker asks for unread bytes of a connection that has ended");
                false
            }
        })
    }

    fn stop_accepting(&mut self) {
        self.with(|sockets, net, _, _, _| {
            net.listening[sockets.worker] = false;
            while let Some(link) = net.backlog[sockets.worker].pop_front() {
                let fact = sockets.admit(link, net);
                sockets.facts.push_back(fact);
            }
        });
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        self.with(|sockets, net, plan, _, _| sockets.start(net, plan));
        Ok(())
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        let fact = self.with(|sockets, net, plan, oracle, now| {
            let fact = sockets.next(net, plan)?;
            oracle.tally.count("facts");
            sockets.report(&fact, oracle, now, net);
            Some(fact)
        })?;
        Some(match fact {
            Fact::Accepted(conn, side) => Input::Accepted { conn, side },
            Fact::AcceptFailed => Input::AcceptFailed,
            Fact::Sent(conn) => Input::Sent { conn },
            Fact::Acked(conn) => Input::Acked { conn },
            Fact::Fin(conn, facts) => Input::PeerClosed { conn, facts },
            Fact::Reset(conn) => Input::Reset { conn },
            Fact::Probed(conn, facts) => Input::Probed { conn, facts },
            Fact::Bytes(conn, bytes) => {
                self.scratch = bytes;
                Input::Received { conn, bytes: &self.scratch }
            }
        })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWake)
    }
}

/// The world checks the mailboxes itself.
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// The kernel closes the sockets that a worker left open when it ended.
pub fn close_remaining(sockets: &mut Sockets, net: &mut Net) {
    for slot in 0..sockets.conns.len() {
        if let Some(conn) = sockets.conns[slot].take()
            && net.socket(conn.link, End::Broker).life == Life::Held
        {
            net.close(conn.link, End::Broker);
        }
    }
}
