//! Engines move bytes and report facts. They know sockets, not polls or runs.
//!
//! Completion-shaped: what the core asks for is submitted, and what became of it comes back as a
//! fact. The epoll engine completes most requests on the spot, the io_uring engine later; the
//! shard above can't tell the difference, and neither can the core.
//!
//! Invariants:
//! - a connection's slot is reused only after `close` or `abort`, with a new generation; of the old
//!   one at most what had been found before is still told, which the core drops;
//! - a `Sent` comes after the kernel took the last byte, exactly once per `send`, unless a `Reset`
//!   comes instead;
//! - a payload belongs to the engine from `send` until the kernel is done with it, however the
//!   connection ends;
//! - an `Acked` comes after its `Sent`;
//! - bytes are told in the order in which they came, and those that came before a `pause` took
//!   effect are still told after it;
//! - a fact that is ready is reported before `wait` blocks.

mod accepting;
mod ack_checks;
mod ack_timestamps;
pub mod epoll;
mod fact;
mod kernel_view;
#[cfg(test)]
mod tests;
pub mod tls;
#[cfg(feature = "io-uring")]
pub mod uring;

use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::tcp::Remote;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What a shard needs of an engine.
pub trait Engine {
    /// Blocks in the engine's place.
    type Sleeper: Sleep;
    /// Called once, on the thread that will drive the engine, before anything else.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Writes all of `payload`; reports `Sent`, then what `confirm` asks for.
    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm);
    /// Stops reading from the peer.
    fn pause(&mut self, conn: ConnId);
    /// Reads again.
    fn resume(&mut self, conn: ConnId);
    /// Sends a FIN; reading goes on.
    fn shutdown(&mut self, conn: ConnId);
    /// Closes in the ordinary way.
    fn close(&mut self, conn: ConnId);
    /// Closes with a reset.
    fn abort(&mut self, conn: ConnId);
    /// Reports the kernel's view as `Probed`.
    fn probe(&mut self, conn: ConnId);
    /// Who is at the other end of an open connection, if the kernel still knows.
    fn remote(&mut self, _conn: ConnId) -> Option<Remote> {
        None
    }
    /// The kernel has bytes of an open connection that have not been told.
    fn has_unread(&mut self, conn: ConnId) -> bool;
    /// Takes what the kernel has queued, then closes the listeners.
    fn stop_accepting(&mut self);
    /// Hands the kernel what was asked for and is not handed over yet. True if there is something to
    /// tell: a `wait` would not block.
    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }
    /// Blocks until there is a fact, a wake-up or the timeout (`None`: no timeout).
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// Takes out what blocks, so that others can use the engine meanwhile. From then on there is no `wait`, but
    /// [`Engine::blocks_for`], [`Sleep::sleep`] without the engine, and [`Engine::slept`]. `None`: this engine is
    /// its thread's alone.
    fn take_blocker(&mut self) -> Option<Self::Sleeper> {
        None
    }
    /// How long a wait of `timeout` may block: not at all if there is something to tell, and no longer than the engine
    /// has time itself.
    fn blocks_for(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        timeout
    }
    /// Takes in what ended the sleep. A turn begins.
    fn slept(&mut self, _sleeper: &mut Self::Sleeper) {}
    /// The next fact of this turn, `None` when the turn is over.
    fn next_fact(&mut self) -> Option<Input<'_>>;
    /// Ends another thread's `wait` on this engine.
    fn waker(&self) -> Arc<dyn Wake>;
    /// What ran short so far.
    fn shortages(&self) -> Shortages {
        Shortages::default()
    }
    /// The TLS handshakes so far, where there is TLS.
    fn handshakes(&self) -> Handshakes {
        Handshakes::default()
    }
}

/// The part of a `wait` that blocks.
pub trait Sleep {
    /// Blocks until there is something to tell, a wake-up or the timeout (`None`: no timeout).
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

/// Of an engine that blocks itself.
pub enum NeverBlocks {}

impl Sleep for NeverBlocks {
    fn sleep(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        match *self {}
    }
}

/// What of the engine's own ran short, and how often. Costs a turn's delay and loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortages {
    /// Bytes came and no receive buffer was free.
    pub buffers: u64,
    /// More completions than the queue holds.
    pub completions: u64,
    /// Incomplete TLS records owned more memory than they may; the connection that brought the last was closed.
    pub records: u64,
}

/// TLS handshakes that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// In a connection that can be used.
    pub done: u64,
    /// In none, through what the peer said (or the lack of a certificate of its own).
    pub failed: u64,
}

/// Ends a `wait` from another thread; remembered if it comes before the wait.
pub trait Wake: Send + Sync {
    /// Wakes.
    fn wake(&self);
}
