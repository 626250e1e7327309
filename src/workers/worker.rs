//! One worker: passes facts and mail to its broker, and carries out the broker's outputs.

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

/// A broker, the engine under it and the mailboxes beside it. Its event loop decides which thread runs it
/// (`event_loop.rs`).
pub struct Worker<E: Engine> {
    index: usize,
    broker: Broker<Hints>,
    engine: E,
    mailbox: Mailbox,
    /// The addresses of all workers, this one included, by index.
    peers: Vec<Address>,
    /// The origin of the broker's time, the same on every worker.
    origin: Instant,
    gate: Gate,
    reply: Option<Reply>,
    events: Option<EventSink>,
    turns: Histogram,
    /// The time of the current turn.
    turn_at: Time,
    is_shut_down: bool,
    wall_clock: Option<WallClock>,
    /// When the worker's thread wakes up, while it blocks; `None` if only another thread ends the block.
    blocked_until: Option<Time>,
    mail_handled_inline: u64,
}

/// Returns microseconds of Unix time.
pub type WallClock = fn() -> u64;

impl<E: Engine> Worker<E> {
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
            is_shut_down: false,
            wall_clock: None,
            blocked_until: None,
            mail_handled_inline: 0,
        }
    }

    /// Classifies the addresses of new connections by `gate`.
    pub fn with_gate(self, gate: Gate) -> Self {
        Worker { gate, ..self }
    }

    /// Emits the broker's events to `events`.
    pub fn with_events(self, events: EventSink) -> Self {
        Worker { events: Some(events), ..self }
    }

    /// Reports the time of `clock` to the broker before every turn. The broker needs it to verify tokens.
    pub fn with_wall_clock(mut self, clock: WallClock) -> Self {
        self.wall_clock = Some(clock);
        self
    }

    /// Begins the engine. Call it first, on the thread that will run.
    pub fn begin(&mut self) -> io::Result<()> {
        self.engine.begin()
    }

    /// Takes out the engine's blocking part, if the engine has one that can be taken out.
    pub fn take_blocker(&mut self) -> Option<E::Blocker> {
        self.engine.take_blocker()
    }

    /// Blocks until there is something for the next turn. After [`Worker::take_blocker`] the caller replaces it by
    /// three calls: [`Worker::prepare_to_block`], `block` and [`Worker::unblocked`].
    pub fn wait(&mut self, now: Time) -> io::Result<()> {
        let timeout = self.arm(now);
        self.engine.wait(timeout)?;
        self.mailbox.disarm();
        Ok(())
    }

    /// From here on, senders wake the thread. Returns how long the thread may block.
    pub fn prepare_to_block(&mut self, now: Time) -> Option<Duration> {
        let timeout = self.arm(now);
        let timeout = self.engine.block_timeout(timeout);
        self.blocked_until = timeout.map(|time| now + time);
        timeout
    }

    /// Takes over what ended the block.
    pub fn unblocked(&mut self, blocker: &mut E::Blocker) {
        self.engine.after_block(blocker);
        self.mailbox.disarm();
    }

    fn arm(&mut self, now: Time) -> Option<Duration> {
        if self.mailbox.arm() { self.until_deadline(now) } else { Some(Duration::ZERO) }
    }

    fn until_deadline(&self, now: Time) -> Option<Duration> {
        self.next_deadline().map(|at| at - now)
    }

    /// Submits the engine's requests. Returns true if there is nothing to do right now.
    pub fn is_idle(&mut self) -> io::Result<bool> {
        Ok(self.mailbox.is_empty() && !self.engine.flush()?)
    }

    /// Records how long a turn of the worker's thread took.
    pub fn record_turn(&mut self, us: u64) {
        self.turns.record(us);
    }

    /// The latest time for the next turn.
    pub fn next_deadline(&self) -> Option<Time> {
        self.broker.next_deadline()
    }

    /// Whether the broker's shutdown is complete and the worker has nothing left to do.
    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    pub fn broker(&self) -> &Broker<Hints> {
        &self.broker
    }

    /// Handles facts, mail and timers.
    pub fn turn(&mut self, now: Time) {
        self.begin_turn(now);
        self.facts(now);
        self.mail(now);
        if self.broker.next_deadline().is_some_and(|at| at <= now) {
            self.broker.tick(now);
            self.carry_out();
        }
        // A peer may already have acknowledged a run that the mail brought, and another worker waits for that.
        self.facts(now);
    }

    /// Handles mail on another worker's thread, while the worker's own thread blocks. Wakes that thread if something
    /// is due before it would wake up.
    pub fn handle_inline(&mut self) {
        let now = self.now();
        self.mail_handled_inline += 1;
        self.begin_turn(now);
        self.mail(now);
        self.facts(now);
        let due = self.engine.block_timeout(self.until_deadline(now)).map(|time| now + time);
        let wakes_too_late = due.is_some_and(|due| self.blocked_until.is_none_or(|until| due < until));
        if wakes_too_late || self.is_shut_down {
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
        // At its limit, the broker would close the oldest silent connection. If the kernel holds bytes from that
        // connection, it is not silent.
        while let Some(silent) = self.broker.next_to_make_room()
            && self.engine.has_unread(silent)
        {
            self.broker.handle(now, Input::Unread { conn: silent });
        }
        self.broker.handle(now, Input::Accepted { conn, side });
        if self.gate.needs_address() {
            let peer = self.gate.classify(self.engine.remote(conn));
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
                Output::HalfClose { conn } => self.engine.half_close(conn),
                Output::Mesh { to, message } => {
                    self.peers[to].deliver(Mail::Mesh { from: self.index, message })
                }
                Output::StopAccepting => self.engine.stop_accepting(),
                Output::Report(mut report) => {
                    report.times.turns = self.turns.clone();
                    report.counters.events_dropped = self.events.as_ref().map_or(0, EventSink::dropped);
                    report.counters.mail_handled_inline = self.mail_handled_inline;
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
                        events.emit(self.turn_at, event);
                    }
                }
                Output::ShutdownComplete => self.is_shut_down = true,
            }
        }
    }

    /// The time since the workers' common origin.
    pub fn now(&self) -> Time {
        Time::default() + self.origin.elapsed()
    }
}
