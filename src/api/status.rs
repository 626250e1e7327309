//! `/status`, `/healthz` and `/readyz`.

use super::Pool;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every counter of every worker, and every pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    /// `epoll` or `io-uring`.
    pub engine: String,
    /// Runners waiting: all held polls.
    pub waiting: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    pub uptime_seconds: u64,
    pub shutting_down: bool,
    /// What proves a delivery: `--confirm`.
    pub confirm: String,
    pub workers: Vec<StatusWorker>,
    pub keys: Vec<Pool>,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusWorker {
    /// Its index.
    pub worker: usize,
    /// The worker did not answer within a second: its numbers are old.
    pub stalled: bool,
    pub connections: u64,
    pub waiting: u64,
    /// Deliveries in progress.
    pub claimed: u64,
    /// Bytes of incomplete requests and of runs that are not delivered yet.
    pub buffered_bytes: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// Every other counter, under its own name.
    #[serde(flatten)]
    pub counters: BTreeMap<String, u64>,
}

/// `GET /healthz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    pub healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stalled_workers: Vec<usize>,
}

/// `GET /readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Readiness {
    pub ready: bool,
    /// `starting` or `shutting_down`; `None` if ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
