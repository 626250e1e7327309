//! One core's share of the broker: facts and mail in, outputs out.

use super::events::EventSink;
use super::gate::Gate;
use super::hints::Hints;
use super::mesh::{Address, Mail, Mailbox, Reply};
use crate::broker::Broker;
use crate::broker::contract::Side;
use crate::broker::histogram::Histogram;
use crate::broker::io::{ConnId, Input, Output};
use crate::broker::time::Time;
use crate::engine::{Engine, Handshakes, Shortages};
use std::io;
use std::time::{Duration, Instant};

/// One core's share of the broker, with the engine under it and the mesh beside it. Whose thread it runs on is its
/// loop's affair (`event_loop.rs`).
pub struct Worker<E: Engine> {
    index: usize,
    broker: Broker<Hints>,
    engine: E,
    mailbox: Mailbox,
    /// By core index, this worker's own included.
    peers: Vec<Address>,
    /// The origin of the core's time: the same on every worker.
    origin: Instant,
    gate: Gate,
    reply: Option<Reply>,
    /// Where events go; nowhere if nobody set it.
    events: Option<EventSink>,
    turns: Histogram,
    /// The time of the turn that is under way.
    turn_at: Time,
    drained: bool,
    wall_clock: Option<WallClock>,
    /// Until when the core's thread sleeps, while it does: `None` for ever.
    blocked_until: Option<Time>,
    visits: u64,
}

/// Microseconds of Unix time.
pub type WallClock = fn() -> u64;

impl<E: Engine> Worker<E> {
    /// A worker ready to run.
    pub fn new(
        index: usize,
        broker: Broker<Hints>,
        engine: E,
        mailbox: Mailbox,
        peers: Vec<Address>,
        origin: Instant,
    ) -> Self {
        Worker {
            index,
            broker,
            engine,
            mailbox,
            peers,
            origin,
            gate: Gate::default(),
            reply: None,
            events: None,
            turns: Histogram::default(),
            turn_at: Time::default(),
            drained: false,
            wall_clock: None,
            blocked_until: None,
            visits: 0,
        }
    }

    /// The same, with addresses judged.
    pub fn behind(self, gate: Gate) -> Self {
        Worker { gate, ..self }
    }

    /// Has events told.
    pub fn with_events(self, events: EventSink) -> Self {
        Worker { events: Some(events), ..self }
    }

    /// Has the core told what this clock says before every turn: it verifies tokens.
    pub fn with_wall_clock(mut self, clock: WallClock) -> Self {
        self.wall_clock = Some(clock);
        self
    }

    /// Takes possession of this thread; call it first, on the thread that will run.
    pub fn begin(&mut self) -> io::Result<()> {
        self.engine.begin()
    }

    /// What blocks in the engine's place, if that can be.
    pub fn take_blocker(&mut self) -> Option<E::Sleeper> {
        self.engine.take_blocker()
    }

    /// Sleeps until there is something for the next turn. Whoever has taken the sleeper out does it in three steps:
    /// [`Worker::prepare_to_block`], the sleep, [`Worker::unblocked`].
    pub fn wait(&mut self, now: Time) -> io::Result<()> {
        let timeout = self.arm(now);
        self.engine.wait(timeout)?;
        self.mailbox.disarm();
        Ok(())
    }

    /// Senders have to wake the core from here on. Answers how long it may sleep.
    pub fn prepare_to_block(&mut self, now: Time) -> Option<Duration> {
        let timeout = self.arm(now);
        let timeout = self.engine.blocks_for(timeout);
        self.blocked_until = timeout.map(|time| now + time);
        timeout
    }

    /// The sleep is over.
    pub fn unblocked(&mut self, sleeper: &mut E::Sleeper) {
        self.engine.slept(sleeper);
        self.mailbox.disarm();
    }

    fn arm(&mut self, now: Time) -> Option<Duration> {
        if self.mailbox.arm() { self.until_deadline(now) } else { Some(Duration::ZERO) }
    }

    fn until_deadline(&self, now: Time) -> Option<Duration> {
        self.next_deadline().map(|at| at - now)
    }

    /// Hands the kernel what was asked for. True if there is nothing to do just now.
    pub fn is_idle(&mut self) -> io::Result<bool> {
        Ok(self.mailbox.is_empty() && !self.engine.flush()?)
    }

    /// A turn of the core's thread took so long.
    pub fn turn_took(&mut self, us: u64) {
        self.turns.record(us);
    }

    /// When the next turn must be, whatever else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        self.broker.next_deadline()
    }

    /// The drain is over; there is nothing left to run for.
    pub fn is_shut_down(&self) -> bool {
        self.drained
    }

    /// The core, to look at.
    pub fn broker(&self) -> &Broker<Hints> {
        &self.broker
    }

    /// Handles what there is: facts, mail, timers.
    pub fn turn(&mut self, now: Time) {
        self.begin_turn(now);
        self.facts(now);
        self.mail(now);
        if self.broker.next_deadline().is_some_and(|at| at <= now) {
            self.broker.tick(now);
            self.carry_out();
        }
        // What mail had sent may be acknowledged already, and another worker sleeps until it hears of that.
        self.facts(now);
    }

    /// Handles mail in the place of the core's thread, which sleeps, and wakes it if it would oversleep what
    /// comes of that.
    pub fn visited(&mut self) {
        let now = self.now();
        self.visits += 1;
        self.begin_turn(now);
        self.mail(now);
        self.facts(now);
        let due = self.engine.blocks_for(self.until_deadline(now)).map(|time| now + time);
        let oversleeps = due.is_some_and(|due| self.blocked_until.is_none_or(|until| due < until));
        if oversleeps || self.drained {
            self.peers[self.index].wake();
        }
    }

    fn begin_turn(&mut self, now: Time) {
        self.turn_at = now;
        if let Some(clock) = self.wall_clock {
            self.broker.handle(now, Input::WallClock { unix_us: clock() });
        }
    }

    fn mail(&mut self, now: Time) {
        while let Some(mail) = self.mailbox.take() {
            match mail {
                Mail::Mesh { from, message } => self.broker.handle(now, Input::Mesh { from, message }),
                Mail::Command { command, reply } => {
                    self.reply = Some(reply);
                    self.broker.handle(now, Input::Command(command));
                }
            }
            self.carry_out();
        }
    }

    fn facts(&mut self, now: Time) {
        while let Some(fact) = self.engine.next_fact() {
            match fact {
                Input::Accepted { conn, side } => self.accepted(now, conn, side),
                fact => self.broker.handle(now, fact),
            }
            self.carry_out();
        }
    }

    fn accepted(&mut self, now: Time, conn: ConnId, side: Side) {
        while let Some(silent) = self.broker.next_to_make_room()
            && self.engine.has_unread(silent)
        {
            self.broker.handle(now, Input::Unread { conn: silent });
        }
        self.broker.handle(now, Input::Accepted { conn, side });
        if self.gate.looks() {
            let peer = self.gate.judge(self.engine.remote(conn));
            self.broker.handle(now, Input::Peer { conn, peer });
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Send { conn, payload, confirm } => self.engine.send(conn, payload, confirm),
                Output::Close { conn } => self.engine.close(conn),
                Output::Abort { conn } => self.engine.abort(conn),
                Output::Probe { conn } => self.engine.probe(conn),
                Output::Pause { conn } => self.engine.pause(conn),
                Output::Resume { conn } => self.engine.resume(conn),
                Output::HalfClose { conn } => self.engine.shutdown(conn),
                Output::Mesh { to, message } => {
                    self.peers[to].deliver(Mail::Mesh { from: self.index, message })
                }
                Output::StopAccepting => self.engine.stop_accepting(),
                Output::Report(mut report) => {
                    report.times.turns = self.turns.clone();
                    report.counters.events_dropped = self.events.as_ref().map_or(0, EventSink::dropped);
                    report.counters.mail_handled_inline = self.visits;
                    let Shortages { buffers, completions, records } = self.engine.shortages();
                    report.counters.buffer_shortages = buffers;
                    report.counters.queue_overflows = completions;
                    report.counters.refused_records = records;
                    let Handshakes { done, failed } = self.engine.handshakes();
                    report.counters.tls_handshakes = done;
                    report.counters.tls_failures = failed;
                    if let Some(reply) = self.reply.take() {
                        reply(*report);
                    }
                }
                Output::Event(event) => {
                    if let Some(events) = &mut self.events {
                        events.tell(self.turn_at, event);
                    }
                }
                Output::ShutdownComplete => self.drained = true,
            }
        }
    }

    /// What the workers' clock says.
    pub fn now(&self) -> Time {
        Time::default() + self.origin.elapsed()
    }
}
