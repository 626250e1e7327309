//! Events for the log, the page, traces and tests. The broker core produces only those that the control
//! thread wants.

use super::ids::Ticket;
use super::pools::Key;
use super::token::fault::Fault;

/// Why a held poll ended without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// The runner closed or reset its connection.
    Left,
    /// Older than the connection timeout.
    Expired,
    /// Closed for shutdown, a cordon or a limit.
    Closed,
}

impl PollEnd {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            PollEnd::Left => "left",
            PollEnd::Expired => "expired",
            PollEnd::Closed => "closed",
        }
    }
}

/// Why no poll could be offered a run. Exact for the answering worker's polls; derived from hashes for other
/// workers' polls (`cold.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdReason {
    /// No runner of the deployment waits.
    NoRunner,
    /// Runners of the deployment wait, all with another version.
    OtherVersion,
    /// Runners of the deployment and version wait, all with another machine size.
    OtherMachineSize,
    /// Runners of the key wait, all too close to their timeout.
    Parked,
    /// A cordon covers the deployment, or the nodes of the key's waiting runners.
    Cordoned,
    ShuttingDown,
    /// `--max-keys` keys are in use.
    KeyLimit,
    /// `--max-buffered` bytes are in flight.
    BytesLimit,
}

impl ColdReason {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            ColdReason::NoRunner => "no_runner",
            ColdReason::OtherVersion => "other_version",
            ColdReason::OtherMachineSize => "other_machine_size",
            ColdReason::Parked => "parked",
            ColdReason::Cordoned => "cordoned",
            ColdReason::ShuttingDown => "shutting_down",
            ColdReason::KeyLimit => "key_limit",
            ColdReason::BytesLimit => "bytes_limit",
        }
    }
}

/// How a dispatch was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// True: a runner confirmed the run.
    Warm,
    /// False: no poll could be offered the run.
    Cold(ColdReason),
    /// False: at least one poll was offered the run, and none confirmed it.
    Unconfirmed,
}

impl Outcome {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Warm => "warm",
            Outcome::Cold(_) => "cold",
            Outcome::Unconfirmed => "unconfirmed",
        }
    }

    /// The name of the reason if cold.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Outcome::Cold(reason) => Some(reason.name()),
            _ => None,
        }
    }
}

/// How one delivery attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Delivery was proven as `--confirm` requires.
    Confirmed,
    /// The peer reset the connection, or closed it before it had the whole run.
    Reset,
    /// The peer's kernel did not acknowledge the run in time.
    AckTimeout,
    /// The peer's process did not read the acknowledged run in time.
    ReadTimeout,
}

impl AttemptEnd {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            AttemptEnd::Confirmed => "confirmed",
            AttemptEnd::Reset => "reset",
            AttemptEnd::AckTimeout => "ack_timeout",
            AttemptEnd::ReadTimeout => "read_timeout",
        }
    }
}

/// Identifies a dispatch. Unique within the process while events refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DispatchId {
    /// The worker to which the supervisor is connected.
    pub home: usize,
    pub ticket: Ticket,
}

/// Where a dispatch comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The run's friendly id.
    pub run: Option<Box<str>>,
    /// `traceparent` as the supervisor sent it, if valid (W3C Trace Context, 3.2).
    pub traceparent: Option<Box<str>>,
    /// The supervisor records this trace, and the allowance permits events for the dispatch and its
    /// attempts.
    pub traced: bool,
}

/// A dispatch was answered.
#[derive(Clone, Debug)]
pub struct DispatchEvent {
    pub id: DispatchId,
    /// `None` if there was no room for the key, or it was not looked up.
    pub key: Option<Key>,
    pub outcome: Outcome,
    /// From the dispatch's last byte to the answer.
    pub took_us: u64,
    /// Polls that were claimed for the dispatch.
    pub attempts: u8,
    pub origin: Origin,
}

/// A delivery attempt ended.
#[derive(Clone, Debug)]
pub struct AttemptEvent {
    /// The dispatch whose run it was.
    pub dispatch: DispatchId,
    /// The dispatch is traced.
    pub traced: bool,
    pub key: Key,
    pub node: Box<str>,
    pub end: AttemptEnd,
    /// From the poll's last byte to the claim.
    pub waited_us: u64,
    /// From the claim to the end.
    pub took_us: u64,
}

#[derive(Clone, Debug)]
pub enum Event {
    PollHeld {
        key: Key,
        node: Box<str>,
    },
    /// A poll ended without a run.
    PollEnded {
        key: Key,
        node: Box<str>,
        end: PollEnd,
        held_us: u64,
    },
    Attempt(Box<AttemptEvent>),
    Dispatch(Box<DispatchEvent>),
    /// A poll was held although its token is invalid (`--token-mode log`).
    InvalidToken {
        fault: Fault,
    },
    /// A request was refused with this HTTP status and error text.
    Rejected {
        status: u16,
        error: String,
    },
}
