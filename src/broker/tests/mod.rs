//! Drives the broker core by hand: facts in, outputs out. Covers what real sockets cannot show: stale ids,
//! late replies, timers to the millisecond.

mod delivery;
mod limits;
mod polls;
mod requests;
mod shutdown;
mod tokens;
mod watching;
mod workers;

use super::Broker;
use super::contract::{self, Side};
use super::http::Persistence;
use super::io::{ConnId, HINT_KINDS, Input, MeshMessage, Output, SendConfirm, Shared, TcpFacts, WorkerSet};
use super::report::{Command, KeyPage, Selector, WorkerReport};
use super::settings::{Confirm, ConnectionLimit, MatchOrder, Settings, TokenMode};
use super::time::Time;
use super::token::Secrets;
use ahash::RandomState;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[derive(Clone, Default)]
struct SharedTable(Rc<Table>);

#[derive(Default)]
struct Table {
    buckets: RefCell<Vec<u64>>,
    connections: Cell<usize>,
    of_an_address: Cell<u32>,
    leased_bytes: Cell<usize>,
}

impl Shared for SharedTable {
    fn buckets(&self) -> usize {
        64
    }
    fn announce(&self, bucket: usize, worker: usize) {
        self.0.buckets.borrow_mut().resize(64 * HINT_KINDS, 0);
        self.0.buckets.borrow_mut()[bucket] |= 1 << worker;
    }
    fn withdraw(&self, bucket: usize, worker: usize) {
        self.0.buckets.borrow_mut()[bucket] &= !(1 << worker);
    }
    fn holders(&self, bucket: usize) -> WorkerSet {
        WorkerSet(self.0.buckets.borrow().get(bucket).copied().unwrap_or(0))
    }
    fn open_connection(&self, connections_max: usize) -> bool {
        let open = self.0.connections.get();
        self.0.connections.set(if open < connections_max { open + 1 } else { open });
        open < connections_max
    }
    fn close_connection(&self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
    fn open_connections(&self) -> usize {
        self.0.connections.get()
    }
    fn open_from(&self, _: u32, connections_max: u32) -> bool {
        let open = self.0.of_an_address.get();
        self.0.of_an_address.set(open + u32::from(open < connections_max));
        open < connections_max
    }
    fn close_from(&self, _: u32) {
        self.0.of_an_address.set(self.0.of_an_address.get() - 1);
    }
    fn lease(&self, bytes: usize, bytes_max: usize) -> bool {
        let fits = self.0.leased_bytes.get() + bytes <= bytes_max;
        self.0.leased_bytes.set(self.0.leased_bytes.get() + if fits { bytes } else { 0 });
        fits
    }
    fn give_back(&self, bytes: usize) {
        self.0.leased_bytes.set(self.0.leased_bytes.get() - bytes);
    }
}

fn settings() -> Settings {
    Settings {
        connection_timeout_ms: 30_000,
        keepalive_ms: 300_000,
        connections: ConnectionLimit::of(100, 1),
        keys_max: 100,
        body_bytes_max: 1 << 20,
        head_bytes_max: 16 << 10,
        request_timeout_ms: 30_000,
        idle_timeout_ms: 60_000,
        preconnect_timeout_ms: 80_000,
        write_timeout_ms: 10_000,
        match_order: MatchOrder::Newest,
        confirm: Confirm::Read,
        ack_timeout_ms: 300,
        read_timeout_ms: 1_000,
        dispatch_timeout_ms: 2_000,
        attempts_max: 3,
        guard_ms: 500,
        shutdown_time_ms: 5_000,
        linger_ms: 1_000,
        pipeline_bytes_max: 64 << 10,
        events: true,
        token_mode: TokenMode::Off,
        token_secrets: Secrets::default(),
        tokens_max: 16,
        dispatch_on_runner_side: true,
        dispatch_from_anyone: true,
        connections_per_address_max: u32::MAX,
        polls_per_key_max: usize::MAX,
        polls_per_deployment_max: usize::MAX,
        buffered_bytes_max: 128 << 20,
    }
}

/// A request to the engine.
#[derive(Debug, PartialEq)]
enum Done {
    Sent(u32, String),
    Closed(u32),
    Aborted(u32),
    HalfClosed(u32),
    Probed(u32),
    Offered { to: usize, attempts_left: u8 },
    Replied { to: usize, delivered: bool, attempts_left: u8 },
    StopAccepting,
    ShutdownComplete,
    Paused(u32),
    Resumed(u32),
}

struct Bench {
    broker: Broker<SharedTable>,
    shared: SharedTable,
    now: Time,
    done: Vec<Done>,
    messages: Vec<MeshMessage>,
    reports: Vec<WorkerReport>,
    events: Vec<super::event::Event>,
    generations: Vec<u32>,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench::on_worker(0, settings, SharedTable::default())
    }

    fn on_worker(worker: usize, settings: Settings, shared: SharedTable) -> Bench {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Bench {
            broker: Broker::new(worker, settings, hasher, shared.clone()),
            shared,
            now: Time::from_ms(1_000),
            done: Vec::new(),
            messages: Vec::new(),
            reports: Vec::new(),
            events: Vec::new(),
            generations: Vec::new(),
        }
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generations[slot as usize] }
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Done> {
        self.broker.handle(self.now, input);
        self.take_outputs();
        std::mem::take(&mut self.done)
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            let done = match output {
                Output::Send { conn, payload, .. } => {
                    Done::Sent(conn.slot, String::from_utf8_lossy(payload.bytes()).into_owned())
                }
                Output::Close { conn } => Done::Closed(conn.slot),
                Output::Abort { conn } => Done::Aborted(conn.slot),
                Output::HalfClose { conn } => Done::HalfClosed(conn.slot),
                Output::Probe { conn } => Done::Probed(conn.slot),
                Output::Pause { conn } => Done::Paused(conn.slot),
                Output::Resume { conn } => Done::Resumed(conn.slot),
                Output::StopAccepting => Done::StopAccepting,
                Output::ShutdownComplete => Done::ShutdownComplete,
                Output::Mesh { to, message } => {
                    self.messages.push(message.clone());
                    match message {
                        MeshMessage::Offer { offer, .. } => {
                            Done::Offered { to, attempts_left: offer.attempts_left }
                        }
                        MeshMessage::Reply { delivered, attempts_left, .. } => {
                            Done::Replied { to, delivered, attempts_left }
                        }
                    }
                }
                Output::Report(report) => {
                    self.reports.push(*report);
                    continue;
                }
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
            };
            self.done.push(done);
        }
    }

    /// Advances to `now + ms`, and ticks at every deadline until then.
    fn pass_ms(&mut self, ms: u64) -> Vec<Done> {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.broker.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.broker.tick(self.now);
            self.take_outputs();
        }
        self.now = until;
        std::mem::take(&mut self.done)
    }

    fn accept(&mut self, slot: u32) {
        self.generations.resize(self.generations.len().max(slot as usize + 1), 0);
        self.generations[slot as usize] += 1;
        let conn = self.id(slot);
        let done = self.input(Input::Accepted { conn, side: Side::Runner });
        assert_eq!(done, []);
    }

    fn receive(&mut self, slot: u32, bytes: &[u8]) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Received { conn, bytes })
    }

    fn sent(&mut self, slot: u32) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Sent { conn })
    }

    fn fin(&mut self, slot: u32, facts: Option<TcpFacts>) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::PeerClosed { conn, facts })
    }

    fn reset(&mut self, slot: u32) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Reset { conn })
    }

    fn probed(&mut self, slot: u32, facts: TcpFacts) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Probed { conn, facts })
    }

    fn poll(&mut self, slot: u32) {
        self.accept(slot);
        assert_eq!(self.receive(slot, POLL), []);
    }

    fn dispatch(&mut self, slot: u32) -> Vec<Done> {
        self.accept(slot);
        self.receive(slot, &dispatch("1"))
    }

    fn command(&mut self, command: Command) -> Vec<Done> {
        self.input(Input::Command(command))
    }
}

const POLL: &[u8] = b"GET /warm-start HTTP/1.1\r\nHost: b\r\nx-trigger-deployment-id: d\r\n\
    x-trigger-deployment-version: 1\r\nx-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 1\r\n\
    x-trigger-worker-instance-name: node-1\r\n\r\n";

const MESSAGE: &str = r#"{"deployment":{"friendlyId":"d"},"backgroundWorker":{"version":"VERSION"},"run":{"machine":{"cpu":5e-1,"memory":1.0}}}"#;

fn dispatch(version: &str) -> Vec<u8> {
    let body = format!(r#"{{"dequeuedMessage":{}}}"#, MESSAGE.replace("VERSION", version));
    format!("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn run_response(close: bool) -> String {
    let message = MESSAGE.replace("VERSION", "1");
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n{message}",
        message.len()
    )
}

fn answer(slot: u32, did_warm_start: bool) -> Done {
    answer_with(slot, did_warm_start, Persistence::KeepAlive)
}

fn last_answer(slot: u32, did_warm_start: bool) -> Done {
    answer_with(slot, did_warm_start, Persistence::Close)
}

fn answer_with(slot: u32, did_warm_start: bool, persistence: Persistence) -> Done {
    let answer = contract::dispatch_answer(did_warm_start, persistence);
    Done::Sent(slot, String::from_utf8(answer.to_vec()).unwrap())
}

const CLEAN: TcpFacts = TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 50, fin: false };

fn unacked(unacked_bytes: u64) -> TcpFacts {
    TcpFacts { unacked_bytes, ..CLEAN }
}
