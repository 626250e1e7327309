//! The broker core decides which polls are held, which poll gets which run, and when a delivery counts.
//!
//! Pure: no I/O, no clock, no threads, no randomness. The contract with the driver has three parts:
//! - Call [`Broker::handle`] with a fact and the time.
//! - Drain [`Broker::poll_output`] until `None` after every call.
//! - Call [`Broker::tick`] no later than [`Broker::next_deadline`].
//!
//! One `Broker` serves one worker. Workers exchange [`io::MeshMessage`]s and share one [`io::Shared`]; the driver
//! provides both.
//!
//! This file handles inputs and drains outputs. The other files of this folder each add one kind of
//! behaviour to [`Broker`], or define an interface. The folders contain parts that do not know [`Broker`].
#![forbid(unsafe_code)]

mod accept;
mod admission;
mod bodies;
mod buffer_pool;
mod cold;
pub mod connections;
pub mod contract;
mod cordons;
pub mod counters;
mod delivery;
mod dispatch;
pub mod event;
pub mod histogram;
pub mod http;
mod ids;
#[cfg(debug_assertions)]
mod invariants;
pub mod io;
pub mod json;
mod life;
mod limits;
mod polls;
pub mod pools;
pub mod report;
mod reporting;
mod requests;
pub mod settings;
mod shared;
mod shutdown;
pub mod time;
pub mod token;
mod watch;

use ahash::RandomState;
use buffer_pool::BufferPool;
use connections::Connections;
use connections::budget::Budget;
use connections::shutdown_schedule::ShutdownSchedule;
use contract::ConnectResponses;
use counters::Counters;
use io::{Input, MeshMessage, Output, Shared};
use pools::Index;
use pools::cordons::CordonSet;
use report::Command;
use settings::Settings;
use std::collections::VecDeque;
use time::Time;
use token::gate::TokenGate;
use watch::Watch;

/// The state of one worker's broker core.
pub struct Broker<S: Shared> {
    worker: usize,
    settings: Settings,
    shared: S,
    connections: Connections,
    /// Held polls.
    index: Index,
    cordons: CordonSet,
    /// Connections in [`connections::State::Dispatch`].
    pending_dispatches: usize,
    /// This worker's share of the budget for in-flight bytes.
    budget: Budget,
    /// Buffers for the responses that carry runs.
    buffer_pool: BufferPool,
    tokens: TokenGate,
    counters: Counters,
    watch: Watch,
    connect_responses: ConnectResponses,
    /// `Some` once the shutdown has begun.
    shutdown: Option<ShutdownSchedule>,
    outputs: VecDeque<Output>,
}

impl<S: Shared> Broker<S> {
    /// A broker core without connections. `hasher` must have the same seed on every worker of the process.
    pub fn new(worker: usize, mut settings: Settings, hasher: RandomState, shared: S) -> Self {
        let secrets = std::mem::take(&mut settings.token_secrets);
        Broker {
            worker,
            connections: Connections::default(),
            index: Index::new(worker, &settings, &hasher, &shared),
            cordons: CordonSet::default(),
            pending_dispatches: 0,
            budget: Budget::new(settings.buffered_bytes_max),
            buffer_pool: BufferPool::default(),
            tokens: TokenGate::new(secrets, hasher, settings.tokens_max),
            counters: Counters::default(),
            watch: Watch::new(settings.events),
            connect_responses: ConnectResponses::new(settings.connection_timeout_ms, settings.keepalive_ms),
            shutdown: None,
            outputs: VecDeque::new(),
            shared,
            settings,
        }
    }

    /// Handles one fact. Never panics, whatever a peer sends.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Sent { conn } => self.sent(now, conn),
            Input::Acked { conn } => self.acked(now, conn),
            Input::Accepted { conn, side } => self.accepted(now, conn, side),
            Input::Unread { conn } => self.unread(conn),
            Input::Peer { conn, peer } => self.peer_identified(conn, peer),
            Input::AcceptFailed => self.counters.accept_errors += 1,
            Input::PeerClosed { conn, facts } => self.peer_closed(now, conn, facts),
            Input::Reset { conn } => self.reset(now, conn),
            Input::Probed { conn, facts } => self.probed(now, conn, facts),
            Input::Mesh { from, message: MeshMessage::Offer { key, offer } } => {
                self.offer_received(now, from, &key, offer);
            }
            Input::Mesh { message: MeshMessage::Reply { ticket, delivered, attempts_left }, .. } => {
                self.reply_received(now, ticket, delivered, attempts_left);
            }
            Input::WallClock { unix_us } => self.tokens.set_clock(now, unix_us),
            Input::Command(command) => self.command(now, command),
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Handles the timers that are due at `now`.
    pub fn tick(&mut self, now: Time) {
        while let Some(slot) = self.connections.expired(now) {
            self.timer_fired(now, slot);
        }
        self.shutdown_progress(now);
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// The latest time for the next call of [`Broker::tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        let open = self.connections.open_count();
        let shutdown = self.shutdown.as_ref().and_then(|shutdown| shutdown.next_deadline(open));
        match (self.connections.next_deadline(), shutdown) {
            (Some(timer), Some(shutdown)) => Some(timer.min(shutdown)),
            (timer, shutdown) => timer.or(shutdown),
        }
    }

    /// The next request to the driver. Drain until `None` after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Held polls, in any state.
    pub fn waiting(&self) -> usize {
        self.index.counts().held()
    }

    /// Memory that connections own for bytes that cannot be used yet.
    pub fn buffered_bytes(&self) -> usize {
        self.connections.iter().map(|(_, conn)| conn.buffered_bytes()).sum()
    }

    pub fn connections(&self) -> usize {
        self.connections.open_count()
    }

    /// Nothing is held: no connection, poll, claim, name, timer or pin.
    pub fn is_at_rest(&self) -> bool {
        let connections = &self.connections;
        let counts = connections.open_count() + connections.timer_count() + connections.silent_count();
        counts + self.pending_dispatches + self.budget.held() == 0 && self.index.is_idle()
    }

    fn command(&mut self, now: Time, command: Command) {
        let mut keys = None;
        match command {
            Command::Report { keys: page, dispatch_events } => {
                keys = page;
                if let Some(allowance) = dispatch_events {
                    self.watch.set_allowance(allowance);
                }
            }
            Command::Cordon(selector) => self.cordon(now, selector),
            Command::Uncordon(selector) => self.uncordon(now, &selector),
            Command::ShutDown => self.begin_shutdown(now),
            Command::TokenSecrets(secrets) => self.tokens.replace_secrets(secrets),
        }
        let report = self.report(now, keys);
        self.outputs.push_back(Output::Report(Box::new(report)));
    }
}

#[cfg(test)]
mod tests;
