//! A `Shared` for workers on one thread, and settings.

use crate::broker::io::{HINT_KINDS, Shared, WorkerSet};
use crate::broker::settings::{Confirm, ConnectionLimit, MatchOrder, Settings, TokenMode};
use crate::broker::token::Secrets;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const BUCKETS: usize = 4;

/// Hints and the count of connections.
#[derive(Clone, Default)]
pub struct OneThread(Rc<(RefCell<[u64; HINT_KINDS * BUCKETS]>, Cell<usize>, Cell<usize>)>);

impl OneThread {
    pub fn connections(&self) -> usize {
        self.0.1.get()
    }
}

impl Shared for OneThread {
    fn buckets(&self) -> usize {
        BUCKETS
    }
    fn announce(&self, bucket: usize, worker: usize) {
        self.0.0.borrow_mut()[bucket] |= 1 << worker;
    }
    fn withdraw(&self, bucket: usize, worker: usize) {
        self.0.0.borrow_mut()[bucket] &= !(1 << worker);
    }
    fn holders(&self, bucket: usize) -> WorkerSet {
        WorkerSet(self.0.0.borrow()[bucket])
    }
    fn open_connection(&self, connections_max: usize) -> bool {
        let open = self.0.1.get();
        self.0.1.set(open + usize::from(open < connections_max));
        open < connections_max
    }
    fn close_connection(&self) {
        self.0.1.set(self.0.1.get() - 1);
    }
    fn open_connections(&self) -> usize {
        self.connections()
    }
    fn open_from(&self, _: u32, _: u32) -> bool {
        true
    }
    fn close_from(&self, _: u32) {}
    fn lease(&self, bytes: usize, bytes_max: usize) -> bool {
        let fits = self.0.2.get() + bytes <= bytes_max;
        self.0.2.set(self.0.2.get() + if fits { bytes } else { 0 });
        fits
    }
    fn give_back(&self, bytes: usize) {
        self.0.2.set(self.0.2.get() - bytes);
    }
}

/// Common limits, with a given confirmation.
pub fn settings(confirm: Confirm) -> Settings {
    Settings {
        connection_timeout_ms: 30_000,
        keepalive_ms: 300_000,
        connections: ConnectionLimit::of(100, 1),
        keys_max: 100,
        body_bytes_max: 1 << 16,
        head_bytes_max: 4 << 10,
        request_timeout_ms: 30_000,
        idle_timeout_ms: 60_000,
        preconnect_timeout_ms: 80_000,
        write_timeout_ms: 10_000,
        match_order: MatchOrder::Newest,
        confirm,
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
