//! `/api/live`.

use super::Cordon;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The current state, and the counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// When the state was read, in milliseconds since 1970.
    pub at_ms: u64,
    pub version: String,
    /// `epoll` or `io-uring`.
    pub engine: String,
    /// What proves a delivery: `--confirm`.
    pub confirm: String,
    pub uptime_seconds: u64,
    pub shutting_down: bool,
    /// `--max-connections`.
    pub connections_limit: usize,
    /// Runners waiting: all held polls.
    pub waiting: u64,
    pub connections: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// Dispatches refused with a 4xx.
    pub rejected: u64,
    /// The cold dispatches by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The number of the last recorded dispatch.
    pub dispatches_seen: u64,
    pub workers: Vec<Worker>,
    pub cordons: Vec<Cordon>,
    /// The pools with most waiting runners.
    pub pools: Vec<Pool>,
    /// The number of all pools.
    pub pools_total: usize,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its index.
    pub worker: usize,
    /// The worker did not answer within a second: its numbers are old.
    pub stalled: bool,
    pub connections: u64,
    pub waiting: u64,
    /// Deliveries in progress.
    pub claimed: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// Runs offered to other workers.
    pub offers_sent: u64,
    /// Events dropped because their queue was full.
    pub events_dropped: u64,
    /// `None` if there was no turn.
    pub turn_p99_us: Option<u64>,
    /// `None` if there was no delivery.
    pub delivery_p99_us: Option<u64>,
}

/// The polls and counters of one key, all workers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// The deployment's friendly id.
    pub deployment: String,
    pub version: String,
    /// vCPUs.
    pub cpu: f64,
    /// GB.
    pub memory: f64,
    /// All held polls.
    pub waiting: u64,
    /// Of these: a run is being delivered.
    pub claimed: u64,
    /// Of these: too close to their timeout to be offered a run.
    pub parked: u64,
    /// Of these: under a cordon.
    pub cordoned: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// The longest wait of a poll that can be offered a run.
    pub oldest_wait_ms: u64,
    pub workers: Vec<PoolOnWorker>,
}

/// One worker's part of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolOnWorker {
    pub worker: usize,
    pub waiting: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
}
