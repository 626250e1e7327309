//! The states of one connection.
//!
//! ```text
//!            bytes            head complete         body complete
//!   Idle ------------> Head ----------------> Body ----------------+
//!    ^                  |                                          |
//!    |                  | poll                                     | dispatch
//!    |                  v                                          v
//!    |               Waiting --- claimed by a dispatch --> Claimed   Dispatch
//!    |                                                      |          |
//!    +---------------- response confirmed or written -------+----------+-- Writing
//! ```
//!
//! A connection may close in every state. A poll that is Waiting or Claimed pins its pool; so does a
//! Dispatch.

use crate::broker::contract::Side;
use crate::broker::event::Origin;
use crate::broker::http::{ChunkedDecoder, HeadScanner, Persistence};
use crate::broker::io::{Offer, Payload};
use crate::broker::pools::{PollState, PoolId};
use crate::broker::shared::WorkerSet;
use crate::broker::time::Time;

/// A connection whose address has no group: see [`crate::broker::io::Peer`].
pub const NO_GROUP: u32 = u32::MAX;

pub struct Connection {
    /// How often the slot has been used.
    pub generation: u32,
    pub state: State,
    /// Bytes that cannot be used yet: an incomplete head, or bytes pipelined behind a request that is not
    /// answered yet. Empty, and without memory, for an idle poll.
    pub buffer: Vec<u8>,
    /// The listener that accepted the connection.
    pub side: Side,
    /// Counts requests; distinguishes a late reply from a current one.
    pub request: u32,
    /// What the response to the current request says about the connection.
    pub persistence: Persistence,
    /// The peer's FIN has arrived.
    pub peer_closed: bool,
    /// Reading is paused because `buffer` is full.
    pub paused: bool,
    /// The peer's address may dispatch.
    pub may_dispatch: bool,
    /// The group of the peer's address, or [`NO_GROUP`].
    pub group: u32,
    /// The bytes that the budget counts for this connection.
    pub counted_bytes: usize,
}

impl Connection {
    pub(super) fn new(generation: u32, state: State, side: Side, may_dispatch: bool) -> Connection {
        Connection {
            generation,
            state,
            buffer: Vec::new(),
            side,
            request: 0,
            persistence: Persistence::KeepAlive,
            peer_closed: false,
            paused: false,
            may_dispatch,
            group: NO_GROUP,
            counted_bytes: 0,
        }
    }

    /// Memory that the connection owns for bytes that cannot be used yet.
    pub fn buffered_bytes(&self) -> usize {
        let body = match &self.state {
            State::Body(body) | State::Continue(body) => body.received.capacity(),
            _ => 0,
        };
        self.buffer.capacity() + body
    }
}

/// What a connection is doing.
pub enum State {
    /// The slot is free.
    Free,
    /// Accepted; the broker has received nothing from it yet.
    Fresh {
        /// The kernel holds bytes that the engine has not reported.
        has_unread: bool,
    },
    /// Between requests.
    Idle,
    /// The buffer contains an incomplete head.
    Head(HeadScanner),
    /// A dispatch's body is incomplete.
    Body(Box<Body>),
    /// The interim 100 (Continue) is being written. The body follows it.
    Continue(Box<Body>),
    Waiting(Poll),
    /// A poll to which a run was written, and whose delivery is not proven yet.
    Claimed(Box<Claim>),
    /// A dispatch that waits for its outcome.
    Dispatch(Box<PendingDispatch>),
    /// A response is being written. After a refusal the connection lingers.
    Writing {
        refused: bool,
    },
    /// Our FIN is sent. Bytes that the peer still sends are discarded until its FIN.
    Lingering,
}

impl State {
    /// Part of a request has arrived.
    pub fn is_incomplete_request(&self) -> bool {
        matches!(self, State::Head(_) | State::Body(_) | State::Continue(_))
    }
}

/// A dispatch's body while it arrives.
pub struct Body {
    /// Decoded so far.
    pub received: Vec<u8>,
    pub framing: BodyFraming,
    /// From the head, if events are wanted.
    pub traceparent: Option<Box<str>>,
}

/// How the end of a body is found.
pub enum BodyFraming {
    /// Content-Length.
    Length(usize),
    Chunked(ChunkedDecoder),
}

#[derive(Clone, Copy)]
pub struct Poll {
    pub pool: PoolId,
    /// The runner's node, interned.
    pub node: u32,
    /// The deployment, interned if its polls are limited.
    pub deployment: u32,
    /// When the request was complete.
    pub since: Time,
    /// The time from which the broker offers the poll no run.
    pub offer_until: Time,
    pub state: PollState,
    /// `offer_until` takes the measured round trip into account.
    pub measured: bool,
}

pub struct Claim {
    pub poll: Poll,
    pub offer: Offer,
    /// When the poll was claimed.
    pub since: Time,
    /// The kernel took the whole run.
    pub sent: bool,
    /// The peer's FIN arrived while bytes were unacknowledged. A reset or an acknowledgement follows.
    pub closing: bool,
    /// Unacknowledged bytes according to the last facts.
    pub unacked_bytes: u64,
    /// When to release the poll, unless there is progress.
    pub give_up_at: Time,
    /// When to release the poll if the runner's process has not read the acknowledged run.
    pub read_until: Time,
    /// Time to the next probe of a closing connection. Doubles with each probe.
    pub probe_after_us: u64,
}

/// A dispatch that waits for its outcome.
pub struct PendingDispatch {
    pub pool: PoolId,
    /// The whole response for the runner.
    pub payload: Payload,
    /// When the request was complete.
    pub since: Time,
    /// The latest time for the answer to the supervisor.
    pub deadline: Time,
    /// How many polls may still be tried.
    pub attempts_left: u8,
    /// Workers that need no offer: this one, and those that have received one.
    pub tried: WorkerSet,
    /// At least one poll was claimed for it.
    pub attempted: bool,
    /// `Some` if an event is wanted.
    pub origin: Option<Box<Origin>>,
}
