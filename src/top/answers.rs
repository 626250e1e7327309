//! What the admin side answers, as far as it is shown (docs/reference/api.md). What is missing is empty: an older broker
//! is watched as well as it can be.

use serde::Deserialize;
use std::collections::BTreeMap;

/// `/api/live`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Live {
    pub at_ms: u64,
    pub version: String,
    pub engine: String,
    pub confirm: String,
    pub uptime_seconds: u64,
    pub shutting_down: bool,
    pub connections_limit: u64,
    pub waiting: u64,
    pub connections: u64,
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    pub rejected: u64,
    pub reasons: BTreeMap<String, u64>,
    pub workers: Vec<Worker>,
    pub cordons: Vec<Cordon>,
    pub pools: Vec<Pool>,
    pub pools_total: usize,
}

/// One worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Worker {
    pub worker: usize,
    pub stalled: bool,
    pub connections: u64,
    pub waiting: u64,
    pub warm: u64,
    pub cold: u64,
    pub offers_sent: u64,
    pub turn_p99_us: Option<u64>,
    pub delivery_p99_us: Option<u64>,
}

/// What runs are kept away from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cordon {
    pub node: Option<String>,
    pub deployment: Option<String>,
}

/// One key on all workers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pool {
    pub deployment: String,
    pub version: String,
    pub cpu: f64,
    pub memory: f64,
    pub waiting: u64,
    pub cordoned: u64,
    pub warm: u64,
    pub cold: u64,
    pub oldest_wait_ms: u64,
}

/// `/api/history`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hour {
    pub samples: Vec<Sample>,
}

/// Ten seconds of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sample {
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    pub delivery_p50_us: Option<u64>,
    pub delivery_p99_us: Option<u64>,
}

/// `/api/dispatches`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dispatches {
    pub last: u64,
    pub dispatches: Vec<Dispatch>,
}

/// One that was answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dispatch {
    pub seq: u64,
    pub at_ms: u64,
    pub outcome: String,
    pub reason: Option<String>,
    pub closest: Option<String>,
    pub run: Option<String>,
    pub deployment: Option<String>,
    pub version: Option<String>,
    pub took_us: u64,
}
