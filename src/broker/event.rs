//! What happened, for whoever watches: log, page, tests. Nothing here is produced unless somebody does.

use super::io::Ticket;
use super::key::Key;
use super::token::fault::Fault;

/// Why a held poll ended without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// The runner closed or reset its connection.
    Left,
    /// Older than the connection timeout.
    Expired,
    /// Closed for drain, cordon or capacity.
    Closed,
}

impl PollEnd {
    /// As logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            PollEnd::Left => "left",
            PollEnd::Expired => "expired",
            PollEnd::Closed => "closed",
        }
    }
}

/// Why no poll could be offered a run. What the answering worker holds is known exactly, what others
/// hold by a hash: see `why.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdReason {
    /// Nobody waits for the deployment.
    NoRunner,
    /// Somebody waits for the deployment, in another version.
    OtherVersion,
    /// Somebody waits for the deployment and the version, on another machine.
    OtherMachineSize,
    /// Polls of the key are held, all in their last moments.
    Parked,
    /// Polls of the key are held, and a cordon keeps runs away from them.
    Cordoned,
    /// The broker is on its way out.
    ShuttingDown,
    /// No room for one more key.
    KeyLimit,
    /// No room for its bytes.
    BytesLimit,
}

impl ColdReason {
    /// As logs and metrics write it.
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
    /// True: a runner confirmed it.
    Warm,
    /// False: no poll could be offered the run.
    Cold(ColdReason),
    /// False: polls were offered the run, none confirmed it.
    Unconfirmed,
}

impl Outcome {
    /// The outcome, as logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Warm => "warm",
            Outcome::Cold(_) => "cold",
            Outcome::Unconfirmed => "unconfirmed",
        }
    }

    /// The reason of a miss.
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
    /// Confirmed in the sense of the mode.
    Confirmed,
    /// The peer reset the connection or closed it before it had everything.
    Reset,
    /// No acknowledgement in time.
    AckTimeout,
    /// Acknowledged, not read in time.
    ReadTimeout,
}

impl AttemptEnd {
    /// As logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            AttemptEnd::Confirmed => "confirmed",
            AttemptEnd::Reset => "reset",
            AttemptEnd::AckTimeout => "ack_timeout",
            AttemptEnd::ReadTimeout => "read_timeout",
        }
    }
}

/// A dispatch, told apart from every other of the process for as long as anything is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DispatchId {
    /// The core that its supervisor is connected to.
    pub home: usize,
    /// Its connection and request there.
    pub ticket: Ticket,
}

/// Whose a dispatch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The run's friendly id.
    pub run: Option<Box<str>>,
    /// `traceparent` as the supervisor sent it, if it was well-formed (W3C Trace Context, 3.2).
    pub traceparent: Option<Box<str>>,
    /// Its supervisor records this trace, and there was room to tell of it: so are its attempts.
    pub traced: bool,
}

/// A dispatch that was answered.
#[derive(Clone, Debug)]
pub struct DispatchEvent {
    /// Which.
    pub id: DispatchId,
    /// Its key; `None` if there was no room to remember it, or nothing was looked up.
    pub key: Option<Key>,
    /// The answer.
    pub end: Outcome,
    /// From its last byte to the answer.
    pub took_us: u64,
    /// Polls that were claimed for it.
    pub attempts: u8,
    /// Whose it is.
    pub origin: Origin,
}

/// A delivery attempt that ended.
#[derive(Clone, Debug)]
pub struct AttemptEvent {
    /// The dispatch whose run it was.
    pub dispatch: DispatchId,
    /// The dispatch is traced.
    pub traced: bool,
    /// The poll's key.
    pub key: Key,
    /// The poll's `x-trigger-worker-instance-name`.
    pub node: Box<str>,
    /// How.
    pub end: AttemptEnd,
    /// From the poll's last byte to the claim.
    pub waited_us: u64,
    /// From claim to end.
    pub took_us: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A poll is held.
    PollHeld {
        /// Its key.
        key: Key,
        /// Its `x-trigger-worker-instance-name`.
        node: Box<str>,
    },
    /// A poll ended without a run.
    PollEnded {
        /// Its key.
        key: Key,
        /// Its `x-trigger-worker-instance-name`.
        node: Box<str>,
        /// Why.
        end: PollEnd,
        /// How long it was held.
        held_us: u64,
    },
    /// A delivery attempt ended.
    Attempt(Box<AttemptEvent>),
    /// A dispatch was answered.
    Dispatch(Box<DispatchEvent>),
    /// A poll was held though its token is at fault (`--token-mode log`).
    TokenAtFault {
        /// What is wrong with it.
        fault: Fault,
    },
    /// A request was refused.
    Rejected {
        /// HTTP status.
        status: u16,
        /// What the error body says.
        error: String,
    },
}

/// The `traceparent` of a request's head, which is well-formed; the first, if there are several.
#[cold]
pub fn traceparent_of(head: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"traceparent:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line =
        lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    traceparent(line[NAME.len()..].trim_ascii())
}

/// `traceparent` if it is one: version, trace id, parent id and flags in lower-case hex, neither id
/// all zero (W3C Trace Context, 3.2.2). Later versions may append fields, which are cut off.
fn traceparent(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value.get(..55)?).ok()?;
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sound = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let rest_follows = match value.get(55) {
        None => true,
        Some(next) => version != "00" && *next == b'-',
    };
    (sound && version != "ff" && !zero(trace) && !zero(parent) && rest_follows).then_some(text)
}

/// Whether the flags of a well-formed `traceparent` say that its trace is recorded (W3C Trace Context,
/// 3.2.2.5: the lowest bit).
pub fn is_sampled(traceparent: &str) -> bool {
    matches!(traceparent.as_bytes().get(54), Some(b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_taken_only_if_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good.as_bytes()), Some(good));
        let later = format!("cc{}-what-comes", &good[2..]);
        assert_eq!(traceparent(later.as_bytes()), Some(&later[..55]));
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("{good}x"),
            &good.to_uppercase(),
            &good.replace("01", "0g"),
            &format!("ff{}", &good[2..]),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
            &good.replace('-', "_"),
            "00-0af7651916cd43dd8448eb211c80319c\u{e9}b7ad6b7169203331-01-0",
        ] {
            assert_eq!(traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_lowest_flag_says_whether_a_trace_is_recorded() {
        let with = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        for (flags, sampled) in
            [("00", false), ("01", true), ("02", false), ("03", true), ("fe", false), ("ff", true)]
        {
            assert_eq!(is_sampled(&with(flags)), sampled, "{flags}");
        }
    }
}
