//! `/api/dispatches`.

use serde::{Deserialize, Serialize};

/// The query: only dispatches with a larger number than this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchesQuery {
    #[serde(default)]
    pub after: u64,
}

/// The last dispatches, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dispatches {
    /// The number of the last dispatch; 0 before the first.
    pub last: u64,
    pub dispatches: Vec<Dispatch>,
}

/// An answered dispatch. A field is `None` if its value is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dispatch {
    /// The dispatch's number: recorded dispatches count from 1.
    pub seq: u64,
    /// When it was answered, in milliseconds since 1970.
    pub at_ms: u64,
    /// The worker that the supervisor is connected to.
    pub worker: usize,
    /// `warm`, `cold` or `unconfirmed`.
    pub outcome: String,
    /// Why it was cold.
    pub reason: Option<String>,
    /// The waiting runners whose key is closest to the run's, in words. Up to one second old.
    pub closest: Option<String>,
    /// The run's friendly id.
    pub run: Option<String>,
    pub deployment: Option<String>,
    pub version: Option<String>,
    /// vCPUs.
    pub cpu: Option<f64>,
    /// GB.
    pub memory: Option<f64>,
    /// From the request's last byte to its answer.
    pub took_us: u64,
    /// Runners that were offered the run.
    pub attempts: u8,
    /// The `traceparent` that the supervisor sent.
    pub traceparent: Option<String>,
}
