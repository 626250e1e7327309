//! One connection's states.
//!
//! ```text
//!            bytes            head complete         body complete
//!   Idle ------------> Head ----------------> Body ----------------+
//!    ^                  |                                          |
//!    |                  | GET /warm-start                          | POST /warm-start
//!    |                  v                                          v
//!    |               Waiting --- claimed by a dispatch --> Claimed   Verdict
//!    |                                                      |          |
//!    +---------------- response confirmed or written -------+----------+-- Writing
//! ```
//!
//! Every state may end in closed. A poll that is Waiting or Claimed has its pool pinned; so has a
//! dispatch in Verdict.

use super::contract::Side;
use super::event::Origin;
use super::http::response::Persistence;
use super::http::{ChunkedDecoder, HeadScanner};
use super::io::{ConnId, Offer, Payload, WorkerSet};
use super::pool::PoolId;
use super::time::Time;

/// One connection.
pub struct Conn {
    /// Which use of the slot this is.
    pub generation: u32,
    /// What it is doing.
    pub state: State,
    /// Bytes that could not be used yet: an incomplete head, or what was pipelined behind a
    /// request that is not answered yet. Empty, and without memory, in an idle poll.
    pub buffer: Vec<u8>,
    /// The listener that it came in by.
    pub side: Side,
    /// Requests begun; tells a late reply from a current one.
    pub request: u32,
    /// Of the current request.
    pub persistence: Persistence,
    /// The peer's FIN has been seen.
    pub peer_closed: bool,
    /// Reading is paused because `buffer` is full.
    pub paused: bool,
    /// Its dispatches are taken.
    pub may_dispatch: bool,
    /// Where its address's connections are counted, or [`NO_GROUP`].
    pub group: u32,
    /// Its part of the bytes in flight, as last counted.
    pub counted_bytes: usize,
}

/// The connection is counted with no address.
pub const NO_GROUP: u32 = u32::MAX;

impl Conn {
    /// Memory owned for bytes that can't be used yet.
    pub fn buffered_bytes(&self) -> usize {
        let body = match &self.state {
            State::Body(body) | State::Continue(body) => match &**body {
                Body::Length { received, .. } | Body::Chunked { received, .. } => received.capacity(),
            },
            _ => 0,
        };
        self.buffer.capacity() + body
    }
}

/// What a connection is doing.
pub enum State {
    /// Not in use.
    Free,
    /// Accepted, no byte told yet.
    Fresh {
        /// There are some.
        spoke: bool,
    },
    /// Between requests.
    Idle,
    /// A head is incomplete in the buffer.
    Head(HeadScanner),
    /// A dispatch's body is incomplete.
    Body(Box<Body>),
    /// The interim 100 (Continue) is on its way out; the body comes behind it.
    Continue(Box<Body>),
    /// A held poll.
    Waiting(Poll),
    /// A poll to which a run has been written, not confirmed yet.
    Claimed(Box<Claim>),
    /// A dispatch that waits for its pending.
    Dispatch(Box<PendingDispatch>),
    /// A response is being written; a refusal is followed by a lingering close.
    Writing {
        /// The request was refused.
        refused: bool,
    },
    /// Our FIN is sent; what the peer still sends is discarded until its FIN.
    Lingering,
}

impl State {
    /// Bytes of a request are here, and more of it are to come.
    pub fn is_incomplete_request(&self) -> bool {
        matches!(self, State::Head(_) | State::Body(_) | State::Continue(_))
    }
}

/// A body on its way in.
pub enum Body {
    /// `Content-Length`.
    Length {
        /// What has arrived.
        received: Vec<u8>,
        /// What was announced.
        length: usize,
        /// From the head, if somebody wants it.
        traceparent: Option<Box<str>>,
    },
    /// `Transfer-Encoding: chunked`.
    Chunked {
        /// Decoded so far.
        received: Vec<u8>,
        /// Where the framing stands.
        decoder: ChunkedDecoder,
        /// From the head, if somebody wants it.
        traceparent: Option<Box<str>>,
    },
}

/// No interned name.
pub const NO_NAME: u32 = u32::MAX;

/// A held poll.
#[derive(Clone, Copy)]
pub struct Poll {
    /// Where it waits; pinned.
    pub pool: PoolId,
    /// `x-trigger-worker-instance-name`, interned.
    pub node: u32,
    /// The deployment, interned where its polls are counted, or [`NO_NAME`].
    pub deployment: u32,
    /// When the request was complete.
    pub since: Time,
    /// It is not offered a run from here on.
    pub offer_until: Time,
    /// It is in the key index.
    pub matchable: bool,
    /// A cordon keeps it out of the index.
    pub cordoned: bool,
    /// `offer_until` takes the measured round trip into account.
    pub measured: bool,
}

/// A delivery attempt.
pub struct Claim {
    /// The poll that was claimed.
    pub poll: Poll,
    /// The run.
    pub offer: Offer,
    /// When it was claimed.
    pub since: Time,
    /// The kernel took all of it.
    pub sent: bool,
    /// The peer's FIN came while bytes were unacknowledged: a reset or the ACK will tell.
    pub closing: bool,
    /// Unacknowledged bytes when last asked.
    pub unacked_bytes: u64,
    /// Give up unless there is progress by then.
    pub give_up_at: Time,
    /// Acknowledged but unread by then: frozen.
    pub read_until: Time,
    /// Microseconds to the next probe of a closing connection; doubles.
    pub probe_after_us: u64,
}

/// A dispatch that waits.
pub struct PendingDispatch {
    /// The key's pool; pinned.
    pub pool: PoolId,
    /// The whole response for the runner.
    pub payload: Payload,
    /// When the request was complete.
    pub since: Time,
    /// Answer by then.
    pub deadline: Time,
    /// Polls that may still be tried.
    pub attempts_left: u8,
    /// Cores that were asked.
    pub tried: WorkerSet,
    /// At least one poll was claimed for it.
    pub attempted: bool,
    /// Whose it is, if somebody wants to know.
    pub origin: Option<Box<Origin>>,
}

/// The table of connections, indexed by the engine's slots.
#[derive(Default)]
pub struct Conns {
    slots: Vec<Conn>,
    open: usize,
}

impl Conns {
    /// Opens `id`. The engine chose it; the slot is free.
    pub fn open(&mut self, id: ConnId, side: Side, may_dispatch: bool) {
        let slot = id.slot as usize;
        let conn = |generation, state| Conn {
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
        };
        while self.slots.len() <= slot {
            self.slots.push(conn(0, State::Free));
        }
        self.slots[slot] = conn(id.generation, State::Fresh { spoke: false });
        self.open += 1;
    }

    /// The open connection `id`; `None` for one that has ended, even if its slot is in use again.
    pub fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && !matches!(conn.state, State::Free))
    }

    /// The open connection in `slot`, which the caller knows to be open.
    pub fn at(&mut self, slot: u32) -> &mut Conn {
        &mut self.slots[slot as usize]
    }

    /// The open connection in `slot`, to look at.
    pub fn peek(&self, slot: u32) -> &Conn {
        &self.slots[slot as usize]
    }

    /// The id of the connection in `slot`.
    pub fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.slots[slot as usize].generation }
    }

    /// Frees the slot and gives back its last state and buffer.
    pub fn close(&mut self, slot: u32) -> (State, Vec<u8>) {
        let conn = &mut self.slots[slot as usize];
        self.open -= 1;
        (std::mem::replace(&mut conn.state, State::Free), std::mem::take(&mut conn.buffer))
    }

    /// Open connections.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Slots in use, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, conn)| !matches!(conn.state, State::Free))
            .map(|(slot, conn)| (slot as u32, conn))
    }
}
