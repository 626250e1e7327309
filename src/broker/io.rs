//! What goes into the core and what comes out of it.
//!
//! The engine reports facts (`Accepted`, `Received`, `Sent`, …) and carries out what the core asks
//! for (`Send`, `Close`, …). Neither side interprets the other's: the engine does not know what a
//! poll is, the core does not know what a socket is.

use super::contract::Side;
use super::event::Event;
use super::key::Key;
use super::report::{Command, WorkerReport};
use super::time::Time;
use std::sync::Arc;

/// A connection: a slot of the engine's table and how often that slot has been used. An event for
/// an earlier user of the slot does not match and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Index in the engine's and the core's tables.
    pub slot: u32,
    /// Counts the slot's users.
    pub generation: u32,
}

/// Bytes on their way out. Shared, not copied: a run may be written to several polls in turn while
/// an engine still owns an earlier write.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Fixed at compile time.
    Static(&'static [u8]),
    /// Made for one response; its buffer may serve another later (`buffer_pool.rs`).
    Shared(Arc<Vec<u8>>),
}

impl Payload {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Static(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }
}

/// What the kernel knows of a connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// Neither reset nor failed.
    pub alive: bool,
    /// Bytes of ours that the peer's kernel has not acknowledged, those not yet sent included.
    pub unacked_bytes: u64,
    /// Smoothed round trip time in microseconds; 0 where nobody asked ([`Output::Probe`] does).
    pub rtt_us: u32,
    /// The peer's FIN is there, told or not yet; false where nobody asked.
    pub fin: bool,
}

/// A fact, from the engine, another worker or the control plane.
#[derive(Debug)]
pub enum Input<'a> {
    /// A new connection.
    Accepted {
        /// Its id, chosen by the engine.
        conn: ConnId,
        /// The listener that it came in by.
        side: Side,
    },
    /// Who is at the other end. Follows `Accepted` at once where a bound or a list asks for it.
    Peer {
        /// Of which connection.
        conn: ConnId,
        /// What matters of it.
        peer: Peer,
    },
    /// Accepting failed for want of descriptors or memory; the engine backs off by itself.
    AcceptFailed,
    /// Bytes from the peer.
    Received {
        /// From whom.
        conn: ConnId,
        /// Valid during the call.
        bytes: &'a [u8],
    },
    /// The kernel took every byte of the last `Send`.
    Sent {
        /// To whom.
        conn: ConnId,
    },
    /// The peer's kernel acknowledged every byte of the last `Send`, which asked for it.
    Acked {
        /// By whom.
        conn: ConnId,
    },
    /// The peer's FIN: it sends no more. `facts` were taken after it was seen; `None` if there was
    /// no `Send` whose delivery is in question. As long as bytes of one are unacknowledged it may be
    /// told again, with what the kernel knows by then.
    PeerClosed {
        /// By whom.
        conn: ConnId,
        /// The kernel's view, if it matters.
        facts: Option<TcpFacts>,
    },
    /// Reset, or failed in another way: nothing more comes or goes.
    Reset {
        /// Which one.
        conn: ConnId,
    },
    /// Bytes of it are there that are still to be told: see [`super::Broker::next_to_make_room`].
    Unread {
        /// Which one.
        conn: ConnId,
    },
    /// Answer to [`Output::Probe`].
    Probed {
        /// Which one.
        conn: ConnId,
        /// The kernel's view.
        facts: TcpFacts,
    },
    /// A message from another worker.
    Mesh {
        /// Index of the sending core.
        from: usize,
        /// What it says.
        message: MeshMessage,
    },
    /// What the wall clock says at the time of this call, in microseconds of Unix time. Only tokens need
    /// it: see [`super::settings::TokenMode`].
    WallClock {
        /// Since 1970, without leap seconds.
        unix_us: u64,
    },
    /// From the control plane.
    Command(Command),
}

/// What the core needs to know of an address. It never sees the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its dispatches are taken.
    pub may_dispatch: bool,
    /// The entry of the shared table that counts its connections, if they are counted.
    pub group: Option<u32>,
}

/// Which confirmation a `Send` needs beyond the kernel's taking the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendConfirm {
    /// `Sent` is all.
    None,
    /// Report [`Input::Acked`].
    Acked,
    /// It is the connection's last: a FIN goes with its last byte. Report facts with the
    /// [`Input::PeerClosed`] that follows.
    Closed,
}

/// What the core wants done.
#[derive(Debug)]
pub enum Output {
    /// Write all of `payload`; at most one `Send` per connection is under way.
    Send {
        /// To whom.
        conn: ConnId,
        /// What.
        payload: Payload,
        /// And what to report after `Sent`.
        confirm: SendConfirm,
    },
    /// Stop reading; the peer feels back-pressure.
    Pause {
        /// Whom.
        conn: ConnId,
    },
    /// Read again.
    Resume {
        /// Whom.
        conn: ConnId,
    },
    /// Send a FIN and go on reading (and discarding), so that the peer can read our last words.
    HalfClose {
        /// Whom.
        conn: ConnId,
    },
    /// Close in the ordinary way. The id is dead from here on.
    Close {
        /// Whom.
        conn: ConnId,
    },
    /// Close with a reset: what the peer has not got by now, it will never get. The id is dead.
    Abort {
        /// Whom.
        conn: ConnId,
    },
    /// Report [`Input::Probed`].
    Probe {
        /// Whom.
        conn: ConnId,
    },
    /// Hand a message to another worker.
    Mesh {
        /// Its index.
        to: usize,
        /// What to say.
        message: MeshMessage,
    },
    /// Stop accepting, without dropping connections that the kernel has already queued.
    StopAccepting,
    /// Answer to [`Command::Report`] (and to every other command, as its receipt).
    Report(Box<WorkerReport>),
    /// Something happened that a log may want.
    Event(Event),
    /// The drain is over; nothing is left.
    ShutdownComplete,
}

/// A dispatch, as its home core knows it: the supervisor's connection and that connection's
/// request number, so that a late reply can't answer the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The supervisor's connection.
    pub conn: ConnId,
    /// The connection's request number.
    pub request: u32,
}

/// A run looking for a poll.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The core to which the supervisor is connected.
    pub home: usize,
    /// The dispatch on that worker.
    pub ticket: Ticket,
    /// The whole response for the runner.
    pub payload: Payload,
    /// Polls that may still be tried.
    pub attempts_left: u8,
    /// When the dispatch's last byte was there.
    pub since: Time,
    /// After this no poll is tried and no confirmation counts.
    pub deadline: Time,
    /// Its attempts are told of.
    pub traced: bool,
}

/// What workers say to each other.
#[derive(Clone, Debug)]
pub enum MeshMessage {
    /// Deliver this run if you have a poll for it.
    Offer {
        /// The run's key.
        key: Key,
        /// The run.
        offer: Offer,
    },
    /// Answer to an offer.
    Reply {
        /// The dispatch.
        ticket: Ticket,
        /// A poll confirmed it.
        delivered: bool,
        /// What is left of the offer's attempts.
        attempts_left: u8,
    },
}

/// A set of workers, by index below 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(pub u64);

impl WorkerSet {
    /// The most workers that a set holds, and so the most workers of a broker.
    pub const WORKERS_MAX: usize = 64;

    /// Without `core`.
    pub fn without(self, worker: usize) -> WorkerSet {
        WorkerSet(self.0 & !(1 << worker))
    }

    /// Without the members of `other`.
    pub fn minus(self, other: WorkerSet) -> WorkerSet {
        WorkerSet(self.0 & !other.0)
    }

    /// With `core`.
    pub fn with(self, worker: usize) -> WorkerSet {
        WorkerSet(self.0 | 1 << worker)
    }

    /// The first member after `core`, going round: spreads the offers of many workers.
    pub fn next_after(self, worker: usize) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let from = (worker as u32 + 1) % 64;
        Some((self.0.rotate_right(from).trailing_zeros() + from) as usize % 64)
    }
}

/// Kinds of buckets in the hint table: of keys, of deployments, of deployments with a version.
pub const HINT_KINDS: usize = 3;

/// What all workers share: the hint table (a bucket of key hashes -> the workers that may have a poll
/// for it), the counts of open connections, and the budget for bytes in flight.
///
/// A hint may say maybe where nobody waits; it never says no where a poll waits (to a reader that
/// runs after the poll was indexed). So a miss, the commonest answer of a cold fleet, costs one load
/// and no message.
pub trait Shared {
    /// Number of buckets, a power of two. There are three times as many in all: of keys, and behind
    /// them of deployments and of deployments with a version, which tell why a dispatch missed.
    fn buckets(&self) -> usize;
    /// `core` has at least one poll in `bucket` now.
    fn announce(&self, bucket: usize, worker: usize);
    /// `core` has no poll in `bucket` any more.
    fn withdraw(&self, bucket: usize, worker: usize);
    /// The workers that may have one.
    fn holders(&self, bucket: usize) -> WorkerSet;
    /// Counts one more open connection if there are fewer than `connections_max`.
    fn open_connection(&self, connections_max: usize) -> bool;
    /// One connection less.
    fn close_connection(&self);
    /// How many are counted.
    fn open_connections(&self) -> usize;
    /// Counts one more open connection of `group` if it has fewer than `connections_max`.
    fn open_from(&self, group: u32, connections_max: u32) -> bool;
    /// One connection of `group` less.
    fn close_from(&self, group: u32);
    /// Takes `bytes` of the budget for bytes in flight if not more than `bytes_max` are taken then.
    fn lease(&self, bytes: usize, bytes_max: usize) -> bool;
    /// Gives `bytes` of the budget back.
    fn give_back(&self, bytes: usize);
}
