//! `/api/history`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The last hour, oldest sample first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    pub interval_seconds: u64,
    pub samples: Vec<Sample>,
}

/// What happened in one interval, and the state at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// The end of the interval, in seconds since 1970.
    pub at: u64,
    pub warm: u64,
    /// Answered false because the broker could offer the run to no runner.
    pub cold: u64,
    /// Answered false after at least one failed delivery attempt.
    pub unconfirmed: u64,
    /// Refused with a 4xx.
    pub rejected: u64,
    /// The cold dispatches by reason. Reasons that did not occur are omitted.
    pub reasons: BTreeMap<String, u64>,
    /// Runners waiting at the end of the interval.
    pub waiting: u64,
    /// Connections open at the end of the interval.
    pub connections: u64,
    /// `None` if there was no delivery.
    pub delivery_p50_us: Option<u64>,
    pub delivery_p99_us: Option<u64>,
}
