//! The broker core: who waits, who gets which run, and when a delivery counts.
//!
//! Pure: no I/O, no clock, no threads, no randomness. The contract with its driver is one line:
//! **call [`Broker::handle`] with a fact and the time, drain [`Broker::poll_output`] until `None`,
//! and call [`Broker::tick`] no later than [`Broker::next_deadline`].**
//!
//! One `Broker` is one worker's share. Cores talk through [`io::MeshMessage`]s and a shared
//! [`io::Shared`], both carried by the shard that drives them.
#![forbid(unsafe_code)]

mod admission;
mod bounds;
pub mod budget;
mod buffer_pool;
pub mod conn;
pub mod contract;
pub mod counters;
mod delivery;
mod dispatch;
pub mod event;
pub mod histogram;
pub mod http;
pub mod io;
pub mod json;
pub mod key;
mod lifecycle;
pub mod list;
pub mod names;
mod polls;
pub mod pool;
pub mod report;
mod requests;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod time;
pub mod timer;
pub mod token;
mod why;

use ahash::RandomState;
use budget::Budget;
use buffer_pool::BufferPool;
use conn::{Conns, State};
use event::{AttemptEnd, PollEnd};
use io::{ConnId, HINT_KINDS, Input, MeshMessage, Output, Shared};
use lifecycle::Cordons;
use list::{Links, List};
use names::Names;
use pool::Pools;
use report::{Allowance, Command, Counters, Times};
use settings::Settings;
use std::collections::VecDeque;
use time::Time;
use timer::Wheel;
use token::Tokens;

/// Everything that one worker decides with.
pub struct Broker<S: Shared> {
    worker: usize,
    settings: Settings,
    conns: Conns,
    timers: Wheel,
    pools: Pools,
    nodes: Names,
    /// Deployments with held polls, where those are bounded.
    deployments: Names,
    /// This core's part of the bytes in flight.
    budget: Budget,
    /// Connections that have not sent a byte, oldest first: the first to go when room runs short.
    silent: List,
    silent_links: Links,
    shared: S,
    /// Indexed polls per hint bucket of keys, indexed pools per hint bucket of relations: the shared
    /// table hears of the first and of the last.
    bucket_counts: Vec<u32>,
    cordons: Cordons,
    tokens: Tokens,
    /// Unix time at the origin of [`Time`], as the clock stood when it was last looked at.
    unix_us_at_origin: u64,
    token_fault: Option<Box<report::FaultSample>>,
    counters: Counters,
    times: Times,
    /// Dispatches that may still be told of before the control plane renews this.
    dispatch_events: Allowance,
    /// Somebody collects traces.
    traces: bool,
    /// Of the dispatch that is being taken in, if it may be told of.
    traceparent: Option<Box<str>>,
    matchable: usize,
    claimed: usize,
    pending_dispatches: usize,
    /// Held but not in the index: in their last moments, or cordoned.
    unmatchable: usize,
    outputs: VecDeque<Output>,
    /// What runs' responses are put together in.
    buffer_pool: BufferPool,
    connect_responses: http::response::ConnectResponses,
    shutdown: Option<lifecycle::Shutdown>,
}

impl<S: Shared> Broker<S> {
    /// A core with nobody connected. `hasher` must be seeded alike on every worker of the process.
    pub fn new(worker: usize, mut settings: Settings, hasher: RandomState, shared: S) -> Self {
        let connect_responses =
            http::response::ConnectResponses::new(settings.connection_timeout_ms, settings.keepalive_ms);
        let tokens =
            Tokens::new(std::mem::take(&mut settings.token_secrets), hasher.clone(), settings.tokens_max);
        Broker {
            worker,
            conns: Conns::default(),
            timers: Wheel::default(),
            pools: Pools::new(hasher.clone(), settings.keys_max),
            nodes: Names::new(hasher.clone()),
            deployments: Names::new(hasher),
            budget: Budget::new(settings.buffered_bytes_max),
            silent: List::default(),
            silent_links: Links::default(),
            bucket_counts: vec![0; HINT_KINDS * shared.buckets()],
            shared,
            cordons: Cordons::default(),
            tokens,
            unix_us_at_origin: 0,
            token_fault: None,
            counters: Counters::default(),
            times: Times::default(),
            dispatch_events: Allowance { any: if settings.events { u32::MAX } else { 0 }, traced: 0 },
            traces: false,
            traceparent: None,
            matchable: 0,
            claimed: 0,
            pending_dispatches: 0,
            unmatchable: 0,
            outputs: VecDeque::new(),
            buffer_pool: BufferPool::default(),
            connect_responses,
            shutdown: None,
            settings,
        }
    }

    /// Takes in one fact. Never panics on what a peer sent.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Sent { conn } => self.sent(now, conn),
            Input::Acked { conn } => self.acked(now, conn),
            Input::Accepted { conn, side } => self.accepted(now, conn, side),
            Input::Unread { conn } => self.unread(conn),
            Input::Peer { conn, peer } => self.peer_known(conn, peer),
            Input::AcceptFailed => self.counters.accept_errors += 1,
            Input::PeerClosed { conn, facts } => self.peer_closed(now, conn, facts),
            Input::Reset { conn } => self.reset(now, conn),
            Input::Probed { conn, facts } => self.probed(now, conn, facts),
            Input::Mesh { from, message: MeshMessage::Offer { key, offer } } => {
                self.offered(now, from, &key, offer);
            }
            Input::Mesh { message: MeshMessage::Reply { ticket, delivered, attempts_left }, from } => {
                self.reply_received(now, from, ticket, delivered, attempts_left);
            }
            Input::WallClock { unix_us } => self.unix_us_at_origin = unix_us.saturating_sub(now.0),
            Input::Command(command) => self.command(now, command),
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Handles the timers that are due at `now`.
    pub fn tick(&mut self, now: Time) {
        while let Some(slot) = self.timers.expired(now) {
            self.timer_fired(now, slot);
        }
        self.shutdown_progress(now);
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// When [`Broker::tick`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let shutdown =
            self.shutdown.as_ref().and_then(|shutdown| shutdown.next_deadline(self.conns.open_count()));
        match (self.timers.next_deadline(), shutdown) {
            (Some(timer), Some(shutdown)) => Some(timer.min(shutdown)),
            (timer, shutdown) => timer.or(shutdown),
        }
    }

    /// The next thing to do; drain until `None` after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Held polls: indexed, parked and claimed.
    pub fn waiting(&self) -> usize {
        self.matchable + self.unmatchable + self.claimed
    }

    /// Memory that connections own for bytes of theirs that can't be used yet.
    pub fn buffered_bytes(&self) -> usize {
        self.conns.iter().map(|(_, conn)| conn.buffered_bytes()).sum()
    }

    /// Nothing is held for anybody: no connection, poll, claim, name, timer or pin.
    pub fn is_at_rest(&self) -> bool {
        let counts = self.conns.open_count() + self.waiting() + self.pending_dispatches + self.timers.armed();
        let counts = counts + self.budget.held() + self.deployments.len();
        let hints = self.bucket_counts.iter().any(|count| *count > 0);
        counts == 0 && !hints && self.silent.is_empty() && self.nodes.is_empty() && self.pools.is_idle()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.conns.open_count()
    }

    fn accepted(&mut self, now: Time, id: ConnId, side: contract::Side) {
        self.counters.accepted += 1;
        if !self.room_for_one_more() {
            self.counters.refused_connections += 1;
            self.outputs.push_back(Output::Close { conn: id });
            return;
        }
        self.conns.open(id, side, self.settings.dispatch_from_anyone);
        self.silent.push_back(&mut self.silent_links, id.slot);
        self.timers.arm(id.slot, now.plus_ms(self.settings.preconnect_timeout_ms));
    }

    /// The connection that the next one may close. Whoever drives the core asks its kernel for bytes of
    /// it that have not been told yet, and tells of them: who has spoken makes room for nobody.
    pub fn next_to_make_room(&self) -> Option<ConnId> {
        let limit = self.settings.connections;
        // Others may take what is left before the next one is here.
        let margin = limit.common / 8 + io::WorkerSet::WORKERS_MAX;
        let scarce =
            self.conns.open_count() >= limit.own && self.shared.open_connections() + margin >= limit.common;
        if scarce { self.silent.front().map(|slot| self.conns.id(slot)) } else { None }
    }

    /// Counts a connection in. At the limit the one that has been silent since its accept for
    /// longest makes room: clients open such connections ahead of need.
    fn room_for_one_more(&mut self) -> bool {
        if self.count_in() {
            return true;
        }
        let Some(slot) = self.silent.front() else { return false };
        self.counters.evicted += 1;
        // Its place goes to the newcomer.
        self.close_in_place(slot);
        true
    }

    /// One of the worker's own, or one of all workers' that is left.
    fn count_in(&mut self) -> bool {
        let limit = self.settings.connections;
        self.conns.open_count() < limit.own || self.shared.open_connection(limit.common)
    }

    fn count_out(&mut self) {
        if self.conns.open_count() > self.settings.connections.own {
            self.shared.close_connection();
        }
    }

    fn unread(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if matches!(conn.state, State::Fresh { .. }) {
            self.no_longer_silent(id.slot);
            self.conns.at(id.slot).state = State::Fresh { spoke: true };
        }
    }

    /// The first byte is there, or the connection ends.
    fn no_longer_silent(&mut self, slot: u32) {
        if matches!(self.conns.peek(slot).state, State::Fresh { spoke: false }) {
            self.silent.remove(&mut self.silent_links, slot);
        }
    }

    fn peer_closed(&mut self, now: Time, id: ConnId, facts: Option<io::TcpFacts>) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.peer_closed = true;
        match &conn.state {
            State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),
            State::Waiting(_) => self.end_poll(now, id.slot, PollEnd::Left),
            // A client may close its sending half behind a request; it still gets its answer.
            State::Dispatch(_) | State::Writing { .. } => {}
            _ => self.close(id.slot),
        }
    }

    fn reset(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        match &conn.state {
            State::Claimed(_) => self.release(now, id.slot, AttemptEnd::Reset),
            State::Waiting(_) => self.end_poll(now, id.slot, PollEnd::Left),
            _ => self.close(id.slot),
        }
    }

    fn sent(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.state {
            State::Claimed(_) => self.claimed_sent(now, id.slot),
            State::Continue(_) => self.continued(now, id),
            State::Writing { refused: true } => self.linger(now, id.slot),
            State::Writing { refused: false } => self.request_done(now, id.slot),
            _ => {}
        }
    }

    fn timer_fired(&mut self, now: Time, slot: u32) {
        match &self.conns.peek(slot).state {
            State::Waiting(_) => self.poll_timer(now, slot),
            State::Claimed(_) => self.claim_timer(now, slot),
            State::Dispatch(_) => self.dispatch_timer(now, slot),
            State::Head(_) | State::Body(_) | State::Continue(_) => self.request_timed_out(slot),
            State::Writing { .. } => self.abort(slot),
            State::Fresh { .. } | State::Idle | State::Lingering => self.close(slot),
            State::Free => {}
        }
    }

    /// Writes a response; `refused` ends the connection after it.
    fn respond(&mut self, now: Time, slot: u32, payload: io::Payload, refused: bool) {
        let conn = self.conns.id(slot);
        self.counters.bytes_out += payload.bytes().len() as u64;
        self.conns.at(slot).state = State::Writing { refused };
        self.timers.arm(slot, now.plus_ms(self.settings.write_timeout_ms));
        self.outputs.push_back(Output::Send { conn, payload, confirm: io::SendConfirm::None });
    }

    /// Closes in the ordinary way and forgets the connection, whatever it was doing.
    fn close(&mut self, slot: u32) {
        self.count_out();
        self.close_in_place(slot);
    }

    fn close_in_place(&mut self, slot: u32) {
        let conn = self.conns.id(slot);
        self.forget(slot);
        self.outputs.push_back(Output::Close { conn });
    }

    /// Closes with a reset, so that nothing unsent can reach the peer later.
    fn abort(&mut self, slot: u32) {
        let conn = self.conns.id(slot);
        self.count_out();
        self.forget(slot);
        self.outputs.push_back(Output::Abort { conn });
    }

    /// Gives back everything that the connection held.
    fn forget(&mut self, slot: u32) {
        self.timers.cancel(slot);
        self.counters.closed += 1;
        self.no_longer_counted(slot);
        self.no_longer_silent(slot);
        let (state, _buffer) = self.conns.close(slot);
        match state {
            State::Waiting(poll) => self.drop_poll(slot, &poll),
            State::Claimed(claim) => self.drop_claim(*claim),
            State::Dispatch(pending) => self.drop_dispatch(*pending),
            _ => {}
        }
    }

    /// Tells what happened, if every single event is wanted.
    fn emit(&mut self, event: impl FnOnce(&Self) -> event::Event) {
        if self.settings.events {
            let event = event(self);
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// Whether the dispatch that comes next may be told of.
    fn tells_of_dispatches(&self) -> bool {
        (self.dispatch_events.any | self.dispatch_events.traced) > 0
    }

    fn command(&mut self, now: Time, command: Command) {
        let mut keys = None;
        match command {
            Command::Report { keys: page, dispatch_events } => {
                keys = page;
                if let Some(Allowance { any, traced }) = dispatch_events {
                    let any = if self.settings.events { u32::MAX } else { any };
                    self.dispatch_events = Allowance { any, traced };
                    self.traces = traced > 0;
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
