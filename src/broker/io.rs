//! The inputs and outputs of the broker core.
//!
//! The engine reports facts (`Accepted`, `Received`, `Sent`, …) and executes requests (`Send`, `Close`, …).
//! The engine knows nothing of polls, and the broker core knows nothing of sockets.

pub use super::ids::{ConnId, Ticket};
pub use super::shared::{HINT_KINDS, Shared, WorkerSet};

use super::contract::Side;
use super::event::Event;
use super::pools::Key;
use super::report::{Command, WorkerReport};
use super::time::Time;
use std::sync::Arc;

/// Bytes to write. Shared rather than copied: the broker may write one run to several polls in turn while the
/// engine still owns an earlier write.
#[derive(Clone, Debug)]
pub enum Payload {
    Static(&'static [u8]),
    /// Made for one response. `BufferPool` may reuse the buffer.
    Shared(Arc<Vec<u8>>),
}

impl Payload {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Static(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }
}

/// The kernel's view of a connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// Neither reset nor failed.
    pub alive: bool,
    /// Bytes of ours that the peer's kernel has not acknowledged, including those not sent yet.
    pub unacked_bytes: u64,
    /// Smoothed round trip time in microseconds; 0 unless requested with [`Output::Probe`].
    pub rtt_us: u32,
    /// The peer's FIN has arrived, reported or not; false unless requested.
    pub fin: bool,
}

/// A fact, from the engine, another worker or the control thread.
#[derive(Debug)]
pub enum Input<'a> {
    /// A new connection. The engine has chosen its id.
    Accepted {
        conn: ConnId,
        side: Side,
    },
    /// Who the peer is. Follows `Accepted` immediately if a limit or an address list needs it.
    Peer {
        conn: ConnId,
        peer: Peer,
    },
    /// Accepting failed for lack of descriptors or memory; the engine backs off.
    AcceptFailed,
    /// Bytes from the peer, valid during the call.
    Received {
        conn: ConnId,
        bytes: &'a [u8],
    },
    /// The kernel took every byte of the last `Send`.
    Sent {
        conn: ConnId,
    },
    /// The peer's kernel acknowledged every byte of the last `Send`, which requested the report.
    Acked {
        conn: ConnId,
    },
    /// The peer's FIN: it sends no more. The engine collects `facts` after it sees the FIN; `None` if no
    /// `Send` awaits its proof of delivery. While bytes of such a `Send` are unacknowledged, the engine may
    /// report the FIN again with newer facts.
    PeerClosed {
        conn: ConnId,
        facts: Option<TcpFacts>,
    },
    /// The connection was reset or failed in another way. Nothing more is received or sent.
    Reset {
        conn: ConnId,
    },
    /// The kernel has bytes of this connection that the engine has not reported yet: see
    /// [`super::Broker::next_to_make_room`].
    Unread {
        conn: ConnId,
    },
    /// Answer to [`Output::Probe`].
    Probed {
        conn: ConnId,
        facts: TcpFacts,
    },
    /// A message from the worker with index `from`.
    Mesh {
        from: usize,
        message: MeshMessage,
    },
    /// The wall clock at the time of this call, in microseconds since 1970. Needed for tokens only: see
    /// [`super::settings::TokenMode`].
    WallClock {
        unix_us: u64,
    },
    Command(Command),
}

/// What the broker core needs to know about a peer's address. It never sees the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address may dispatch.
    pub may_dispatch: bool,
    /// The entry of the shared table that counts the address's connections, if they are limited.
    pub group: Option<u32>,
}

/// The confirmation that a `Send` needs in addition to `Sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendConfirm {
    None,
    /// Report [`Input::Acked`].
    Acked,
    /// The connection's last `Send`: send a FIN with the last byte, and report facts with the
    /// [`Input::PeerClosed`] that follows.
    Closed,
}

/// A request to the engine, another worker or the control thread.
#[derive(Debug)]
pub enum Output {
    /// Write all of `payload`. At most one `Send` per connection is in progress.
    Send { conn: ConnId, payload: Payload, confirm: SendConfirm },
    /// Stop reading, so that the peer feels back-pressure.
    Pause { conn: ConnId },
    /// Read again.
    Resume { conn: ConnId },
    /// Send a FIN, and go on reading and discarding, so that the peer can read our last response.
    HalfClose { conn: ConnId },
    /// Close normally. The id is invalid from here on.
    Close { conn: ConnId },
    /// Close with a reset, so that the peer gets nothing that it does not have yet. The id is invalid from
    /// here on.
    Abort { conn: ConnId },
    /// Report [`Input::Probed`].
    Probe { conn: ConnId },
    /// Send a message to the worker with index `to`.
    Mesh { to: usize, message: MeshMessage },
    /// Stop accepting, but do not drop connections that the kernel has queued already.
    StopAccepting,
    /// Answer to [`Command::Report`], and receipt of every other command.
    Report(Box<WorkerReport>),
    /// For the log, traces and recent dispatches.
    Event(Event),
    /// Shutdown is complete: no connection is left.
    ShutdownComplete,
}

/// A run that needs a poll.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The worker to which the supervisor is connected.
    pub home: usize,
    /// The dispatch on that worker.
    pub ticket: Ticket,
    /// The whole response for the runner.
    pub payload: Payload,
    /// How many attempts are left.
    pub attempts_left: u8,
    /// When the dispatch was complete.
    pub since: Time,
    /// The time from which the broker tries no poll and counts no confirmation.
    pub deadline: Time,
    /// Report its attempts as events.
    pub traced: bool,
}

/// A message between workers.
#[derive(Clone, Debug)]
pub enum MeshMessage {
    /// Deliver this run if you have a poll for its key.
    Offer { key: Key, offer: Offer },
    /// Answer to an offer.
    Reply {
        ticket: Ticket,
        /// A poll confirmed the run.
        delivered: bool,
        /// What is left of the offer's attempts.
        attempts_left: u8,
    },
}
