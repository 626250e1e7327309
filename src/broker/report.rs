//! What the control plane may ask of one core, and what that core answers.

use super::time::Time;
use super::token::Secrets;
use super::token::fault::Fault;

/// A command from the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answer with a [`CoreReport`]; the keys only if asked for.
    Report {
        /// Include one row per key.
        keys: bool,
    },
    /// Close the held polls that match and let no such poll match until lifted.
    Cordon(Selector),
    /// Lift a cordon.
    Uncordon(Selector),
    /// Stop accepting, refuse dispatches, close held polls over the drain time.
    Drain,
    /// From here on tokens are verified with these secrets and no others.
    TokenSecrets(Secrets),
}

/// Which polls a cordon is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// `x-trigger-worker-instance-name`: a node.
    Instance(String),
    /// The deployment's friendly id.
    Deployment(String),
}

/// One core's answer to [`Command::Report`]. Counters count from the start.
#[derive(Clone, Debug, Default)]
pub struct CoreReport {
    /// Index of the core's shard, from 0.
    pub core: usize,
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
    /// Rows per key; empty unless asked for.
    pub keys: Vec<KeyReport>,
    /// Cordons in force.
    pub cordons: Vec<Selector>,
    /// The drain has begun.
    pub draining: bool,
    /// One of the polls whose token was at fault, at most a second older than the last of them.
    pub token_fault: Option<Box<FaultSample>>,
}

/// A poll whose token is at fault, for the log: what it says of itself, shortened, and no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSample {
    /// When.
    pub at: Time,
    /// What is wrong with it.
    pub fault: Fault,
    /// The deployment that it names. Anybody's word.
    pub deployment: String,
    /// `x-trigger-worker-instance-name`, the node. Anybody's word.
    pub instance: String,
}

/// One key on one core.
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
    /// Held polls.
    pub waiting: u64,
    /// Dispatches that arrived on this core and were answered true.
    pub hits: u64,
    /// Dispatches that arrived on this core and were answered false.
    pub misses: u64,
    /// How long the oldest held poll has waited, in milliseconds.
    pub oldest_wait_ms: u64,
}

/// Counters of one core, from the start. Plain numbers: a core has one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused at a limit, whichever.
    pub refused: u64,
    /// Among them: at the limit of their address.
    pub refused_per_address: u64,
    /// Among them: polls, because all keys that are remembered are in use.
    pub refused_keys: u64,
    /// Among them: polls at the limit of their key.
    pub refused_per_key: u64,
    /// Among them: polls at the limit of their deployment.
    pub refused_per_deployment: u64,
    /// Requests closed, refused or answered false because the budget for bytes in flight is used up.
    pub refused_bytes: u64,
    /// Dispatches refused because their address may not send any.
    pub dispatches_forbidden: u64,
    /// Silent connections closed to make room at the limit.
    pub evicted: u64,
    /// Accept failures for want of descriptors or memory.
    pub accept_errors: u64,
    /// Bytes that came when no receive buffer was free, and waited a turn (io_uring).
    pub buffer_shortages: u64,
    /// Turns that brought more completions than the queue holds (io_uring).
    pub queue_overflows: u64,
    /// Connections closed, by whichever side.
    pub closed: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// `GET /connect` answered.
    pub connects: u64,
    /// Polls held.
    pub polls: u64,
    /// Polls that ended because the runner closed.
    pub polls_left: u64,
    /// Polls closed at their connection timeout.
    pub polls_expired: u64,
    /// Polls closed by us for another reason: drain, cordon, capacity.
    pub polls_closed: u64,
    /// Dispatches answered true.
    pub hits: u64,
    /// Dispatches answered false.
    pub misses: u64,
    /// Among the misses: polls were offered the run, none confirmed it.
    pub misses_unconfirmed: u64,
    /// Requests refused with a 4xx or 5xx.
    pub rejected: u64,
    /// Requests closed because their bytes took too long.
    pub requests_timed_out: u64,
    /// Delivery attempts begun (polls claimed).
    pub attempts: u64,
    /// Attempts confirmed.
    pub attempts_confirmed: u64,
    /// Attempts that ended with the peer's reset or close.
    pub attempts_reset: u64,
    /// Attempts given up without an acknowledgement.
    pub attempts_ack_timeout: u64,
    /// Attempts given up acknowledged but unread.
    pub attempts_read_timeout: u64,
    /// Token signatures computed: one per distinct token, if it is good.
    pub token_verifications: u64,
    /// Polls with a bare id where a token is wanted (refused in mode `enforce`, held in `log`).
    pub token_bare: u64,
    /// The same, with what is no token.
    pub token_malformed: u64,
    /// The same, with a token of another algorithm.
    pub token_algorithm: u64,
    /// The same, with a token that no known secret has signed.
    pub token_signature: u64,
    /// The same, with a signed token whose claims are not those of a deployment.
    pub token_claims: u64,
    /// The same, with an expired token.
    pub token_expired: u64,
    /// The same, with a token of another version.
    pub token_version: u64,
    /// Runs offered to another core.
    pub offers_sent: u64,
    /// Offers that another core had no poll for after all.
    pub offers_returned: u64,
}
