//! Commands from the control thread to one worker, and the worker's reports.

pub use super::counters::Counters;
pub use super::token::fault::FaultSample;

use super::histogram::Histogram;
use super::token::Secrets;

/// A command from the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer with a [`WorkerReport`].
    Report {
        /// Include the rows of one page of keys. Paging keeps a report from delaying the worker's other work.
        keys: Option<KeyPage>,
        /// Which dispatches may be reported as events until the next allowance; `None`: no change.
        dispatch_events: Option<Allowance>,
    },
    /// Close the held polls that the selector covers, and offer such polls no run until `Uncordon`.
    Cordon(Selector),
    Uncordon(Selector),
    /// Stop accepting, answer dispatches false, close held polls over the shutdown time.
    ShutDown,
    /// Verify tokens with these secrets only.
    TokenSecrets(Secrets),
}

/// How many dispatches a worker may report as events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Dispatches of any kind.
    pub any: u32,
    /// Dispatches whose supervisor records their trace, with their attempts. 0: traces are not collected.
    pub traced: u32,
}

/// A page of the table of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// Index of the first key: 0, then [`WorkerReport::next_page`].
    pub from: usize,
}

/// The polls that a cordon covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Those whose runner names this node.
    Node(String),
    /// Those of the deployment with this friendly id.
    Deployment(String),
}

/// A worker's answer to [`Command::Report`].
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// The worker's index, from 0.
    pub worker: usize,
    pub connections: u64,
    /// Held polls, in any state.
    pub waiting: u64,
    /// Held polls claimed by a dispatch and not yet confirmed.
    pub claimed: u64,
    /// Bytes in flight: incomplete requests, pipelined bytes, and runs that are not delivered yet.
    pub buffered_bytes: u64,
    pub counters: Counters,
    pub times: Times,
    /// One row per key of the requested page.
    pub keys: Vec<KeyReport>,
    /// The start of the next page of keys, if there is one.
    pub next_page: Option<usize>,
    pub cordons: Vec<Selector>,
    /// The shutdown has begun.
    pub shutting_down: bool,
    /// One of the polls with an invalid token, at most a second older than the last of them.
    pub token_fault: Option<Box<FaultSample>>,
}

/// Times measured by one worker since its start. The worker reads its clock once per turn, so a duration
/// within one turn is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From a dispatch's last byte to the claim of a poll, on any worker; once per attempt.
    pub matching: Histogram,
    /// From the claim to the proof of delivery; confirmed attempts only.
    pub delivery: Histogram,
    /// From the hold of a poll to its claim.
    pub waited: Histogram,
    /// One turn of the event loop, from its wake-up to the end of its work.
    pub turns: Histogram,
}

impl Times {
    /// Adds to `matching` the attempts that took 0, which are not recorded one by one.
    pub fn with_immediate(&self, attempts: u64) -> Times {
        let mut times = self.clone();
        times.matching.record_many(0, attempts - self.matching.count());
        times
    }
}

/// One key on one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyReport {
    /// The deployment's friendly id.
    pub deployment: String,
    /// The background worker's version.
    pub version: String,
    /// In vCPUs.
    pub cpu: f64,
    /// In GB.
    pub memory: f64,
    /// Held polls, in any state.
    pub waiting: u64,
    /// Of these: claimed by a dispatch and not yet confirmed.
    pub claimed: u64,
    /// Of these: too close to their timeout to be offered a run.
    pub parked: u64,
    /// Of these: under a cordon.
    pub cordoned: u64,
    /// Dispatches to this worker by outcome. The three are disjoint.
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// How long the oldest matchable poll has waited.
    pub oldest_wait_ms: u64,
}
