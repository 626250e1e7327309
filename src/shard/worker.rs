//! One core's loop: facts in, outputs out, sleep until the next of either.

use super::events::EventSink;
use super::gate::Gate;
use super::hints::Hints;
use super::mesh::{Address, Mail, Mailbox, Reply};
use super::pace::Pace;
use crate::broker::Broker;
use crate::broker::contract::Side;
use crate::broker::histogram::Histogram;
use crate::broker::io::{ConnId, Input, Output};
use crate::broker::time::Time;
use crate::engine::{Engine, Handshakes, Shortages};
use crate::sys::cpus;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// One core's share of the broker, with the engine under it and the mesh beside it.
pub struct Worker<E: Engine> {
    core: usize,
    broker: Broker<Hints>,
    engine: E,
    mailbox: Mailbox,
    /// By core index, this core's own included.
    peers: Vec<Address>,
    /// The origin of the core's time: the same on every core.
    origin: Instant,
    gate: Gate,
    reply: Option<Reply>,
    /// Where events go; nowhere if nobody set it.
    events: Option<EventSink>,
    turns: Histogram,
    /// The time of the turn that is under way.
    turn_at: Time,
    drained: bool,
    pace: Pace,
    wall_clock: Option<WallClock>,
}

/// Microseconds of Unix time.
pub type WallClock = fn() -> u64;

impl<E: Engine> Worker<E> {
    /// A worker ready to run.
    pub fn new(
        core: usize,
        broker: Broker<Hints>,
        engine: E,
        mailbox: Mailbox,
        peers: Vec<Address>,
        origin: Instant,
    ) -> Self {
        Worker {
            core,
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
            pace: Pace::new(Duration::ZERO, 0),
            wall_clock: None,
        }
    }

    /// The same, with addresses judged.
    pub fn behind(self, gate: Gate) -> Self {
        Worker { gate, ..self }
    }

    /// The same, with rests of this length where it takes so much of a processor's time.
    pub fn coalescing(self, by: Duration, from_percent: u32) -> Self {
        Worker { pace: Pace::new(by, from_percent), ..self }
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

    /// Runs until drained.
    ///
    /// # Errors
    /// Only what the kernel answers to waiting for events, which nothing here can mend.
    pub fn run(mut self) -> io::Result<()> {
        let mut now = self.now();
        loop {
            self.rest()?;
            let timeout = self.next_deadline().map(|at| at - now);
            let timeout = if self.mailbox.arm() { timeout } else { Some(Duration::ZERO) };
            self.engine.wait(timeout)?;
            self.mailbox.disarm();
            now = self.now();
            self.pace.begin(now);
            self.turn(now);
            let end = self.now();
            if self.pace.end(end) {
                self.pace.had(cpus::time_of_this_thread());
            }
            self.turns.record(end.us_since(now));
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    /// In busy times lets work gather, unless there is some already.
    fn rest(&mut self) -> io::Result<()> {
        if let Some(rest) = self.pace.rest()
            && self.mailbox.is_empty()
            && !self.engine.flush()?
        {
            thread::sleep(rest);
        }
        Ok(())
    }

    /// When the next turn must be, whatever else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        self.broker.next_deadline()
    }

    /// The drain is over; there is nothing left to run for.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The core, to look at.
    pub fn broker(&self) -> &Broker<Hints> {
        &self.broker
    }

    /// Handles what there is: facts, mail, timers.
    pub fn turn(&mut self, now: Time) {
        self.turn_at = now;
        if let Some(clock) = self.wall_clock {
            self.broker.handle(now, Input::WallClock { unix_us: clock() });
        }
        while let Some(fact) = self.engine.next_fact() {
            match fact {
                Input::Accepted { conn, side } => self.accepted(now, conn, side),
                fact => self.broker.handle(now, fact),
            }
            self.carry_out();
        }
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
        if self.broker.next_deadline().is_some_and(|at| at <= now) {
            self.broker.tick(now);
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
                Output::Shutdown { conn } => self.engine.shutdown(conn),
                Output::Mesh { to, message } => self.peers[to].send(Mail::Mesh { from: self.core, message }),
                Output::StopAccepting => self.engine.stop_accepting(),
                Output::Report(mut report) => {
                    report.times.turns = self.turns.clone();
                    report.counters.events_dropped = self.events.as_ref().map_or(0, EventSink::dropped);
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
                Output::Drained => self.drained = true,
            }
        }
    }

    fn now(&self) -> Time {
        Time::default() + self.origin.elapsed()
    }
}
