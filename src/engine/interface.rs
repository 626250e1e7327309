//! What a worker needs from an engine.

use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::tcp::Remote;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Moves the bytes of one worker's connections. The module's invariants bind every implementation.
pub trait Engine {
    /// The part of the engine that blocks, which can be taken out.
    type Blocker: Blocker;
    /// Call it once, before everything else, on the thread that will drive the engine.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Sends all of `payload`. Reports `Sent`, then what `confirm` asks for.
    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm);
    /// Stops reading from the peer.
    fn pause(&mut self, conn: ConnId);
    /// Reads again after `pause`.
    fn resume(&mut self, conn: ConnId);
    /// Sends a FIN and goes on reading.
    fn half_close(&mut self, conn: ConnId);
    /// Closes `conn`; the kernel still delivers what it has taken.
    fn close(&mut self, conn: ConnId);
    /// Closes `conn` with a reset.
    fn abort(&mut self, conn: ConnId);
    /// Reports the kernel's view as `Probed`.
    fn probe(&mut self, conn: ConnId);
    /// The peer of an open connection, if the kernel still knows it.
    fn remote(&mut self, _conn: ConnId) -> Option<Remote> {
        None
    }
    /// Whether the kernel has bytes of an open connection that the engine has not reported.
    fn has_unread(&mut self, conn: ConnId) -> bool;
    /// Accepts what the kernel has queued, then closes the listeners.
    fn stop_accepting(&mut self);
    /// Submits every request that is not submitted yet. Returns true if there is something to report, so that
    /// `wait` would not block.
    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }
    /// Blocks until there is a fact, a wake-up or the timeout (`None`: no timeout). Begins a turn.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// Takes the blocking part out, so that other threads can use the engine while its thread blocks. After that
    /// the caller replaces `wait` by three calls: [`Engine::block_timeout`], [`Blocker::block`] (without the engine)
    /// and [`Engine::after_block`]. `None`: only the engine's own thread can use it.
    fn take_blocker(&mut self) -> Option<Self::Blocker> {
        None
    }
    /// How long a wait of `timeout` may block: zero if there is something to report, and at most until the engine's
    /// next deadline.
    fn block_timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        timeout
    }
    /// Takes over the events that ended the block. Begins a turn.
    fn after_block(&mut self, _blocker: &mut Self::Blocker) {}
    /// The next fact of this turn, `None` when the turn is over.
    fn next_fact(&mut self) -> Option<Input<'_>>;
    /// Ends this engine's `wait` from another thread.
    fn waker(&self) -> Arc<dyn Wake>;
    /// How often a resource of the engine has run short so far.
    fn shortages(&self) -> Shortages {
        Shortages::default()
    }
    /// The TLS handshakes so far; zero without TLS.
    fn handshakes(&self) -> Handshakes {
        Handshakes::default()
    }
}

/// The part of a `wait` that blocks.
pub trait Blocker {
    /// Blocks until there is something to report, a wake-up or the timeout (`None`: no timeout).
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

/// The blocker of an engine whose blocking part cannot be taken out. It has no values.
pub enum NeverBlocks {}

impl Blocker for NeverBlocks {
    fn block(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        match *self {}
    }
}

/// How often a resource of the engine ran short. A shortage of buffers or completions delays by a turn and loses
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortages {
    /// Bytes arrived and no receive buffer was free.
    pub buffers: u64,
    /// There were more completions than the queue holds.
    pub completions: u64,
    /// Incomplete TLS records exceeded their limit of memory; the engine reset the connection that sent the last.
    pub records: u64,
}

/// TLS handshakes that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    pub done: u64,
    /// Handshakes that failed because of what the peer sent, or because it sent no certificate.
    pub failed: u64,
}

/// Ends a `wait` from another thread. A wake-up before the wait ends the next wait.
pub trait Wake: Send + Sync {
    fn wake(&self);
}
