//! What the control plane may ask of one worker, and what that worker answers.

pub use super::counters::Counters;
pub use super::token::fault::FaultSample;

use super::histogram::Histogram;
use super::token::Secrets;

/// A command from the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer with a [`WorkerReport`].
    Report {
        /// Include the rows of these keys; a page of them, so that other work is not held up.
        keys: Option<KeyPage>,
        /// What may be told of from now on until this is said again; `None`: as before.
        dispatch_events: Option<Allowance>,
    },
    /// Close the held polls that match and let no such poll match until lifted.
    Cordon(Selector),
    /// Lift a cordon.
    Uncordon(Selector),
    /// Stop accepting, refuse dispatches, close held polls over the drain time.
    ShutDown,
    /// From here on tokens are verified with these secrets and no others.
    TokenSecrets(Secrets),
}

/// Dispatches that a worker may tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Whichever come first.
    pub any: u32,
    /// Of those whose supervisor records their trace: told with their attempts. 0: nobody collects traces.
    pub traced: u32,
}

/// Which keys to report on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The first place in the table of keys: 0, then what [`WorkerReport::next_page`] said.
    pub from: usize,
}

/// Which polls a cordon is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// `x-trigger-worker-instance-name`: a node.
    Node(String),
    /// The deployment's friendly id.
    Deployment(String),
}

/// One core's answer to [`Command::Report`]. Counters count from the start.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// Index of the core's shard, from 0.
    pub worker: usize,
    /// Open connections.
    pub connections: u64,
    /// Held polls: those in the index and those claimed by a dispatch.
    pub waiting: u64,
    /// Held polls claimed by a dispatch and not yet confirmed.
    pub claimed: u64,
    /// Bytes in flight: incomplete requests, what is pipelined, and runs that are not delivered yet.
    pub buffered_bytes: u64,
    /// Counted facts.
    pub counters: Counters,
    /// Measured times.
    pub times: Times,
    /// Rows per key; empty unless asked for.
    pub keys: Vec<KeyReport>,
    /// Where the next page of rows begins, if there is one.
    pub next_page: Option<usize>,
    /// Cordons in force.
    pub cordons: Vec<Selector>,
    /// The drain has begun.
    pub shutting_down: bool,
    /// One of the polls whose token was at fault, at most a second older than the last of them.
    pub token_fault: Option<Box<FaultSample>>,
}

/// Times of one worker, from the start, as far as its clock can tell: the core is told the time once a
/// turn, so what begins and ends in one turn took 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From a dispatch's last byte to the claim of a poll, on whichever core; once per attempt.
    pub matching: Histogram,
    /// From the claim to the proof of delivery; confirmed attempts only.
    pub delivery: Histogram,
    /// How long claimed polls had waited.
    pub waited: Histogram,
    /// One turn of the loop, from the end of its sleep to the end of its work.
    pub turns: Histogram,
}

impl Times {
    /// With those of all `attempts` that took 0, which are not recorded one by one.
    pub fn with_immediate(&self, attempts: u64) -> Times {
        let mut times = self.clone();
        times.matching.record_many(0, attempts - self.matching.count());
        times
    }
}

/// One key on one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyReport {
    /// Deployment friendly id.
    pub deployment: String,
    /// Background worker version.
    pub version: String,
    /// vCPUs of the machine.
    pub cpu: f64,
    /// GB of the machine.
    pub memory: f64,
    /// Held polls, all that follow included.
    pub waiting: u64,
    /// Of these: claimed by a dispatch and not yet confirmed.
    pub claimed: u64,
    /// Of these: in their last moments, offered no run any more.
    pub parked: u64,
    /// Of these: under a cordon.
    pub cordoned: u64,
    /// Dispatches to this worker by outcome. The three are disjoint.
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
    /// How long the oldest poll that may be offered a run has waited, in milliseconds.
    pub oldest_wait_ms: u64,
}
