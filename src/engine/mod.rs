//! Engines move bytes and report facts. They know sockets, not polls or runs.
//!
//! An engine submits the requests of the broker, and reports their results as facts. The epoll engine completes most
//! requests within the call, the io_uring engine later. Neither the worker nor the broker core can tell the
//! difference.
//!
//! Invariants:
//! - the engine reuses a connection's slot only after `close` or `abort`, and under a new generation. It may still
//!   report facts of the old connection that it found before that; the broker drops them;
//! - it reports `Sent` exactly once per `send`, after the kernel took the last byte, unless it reports `Reset`
//!   instead;
//! - a payload belongs to the engine from `send` until the kernel no longer uses it, however the connection ends;
//! - it reports `Acked` after the `Sent` that it belongs to;
//! - it reports bytes in the order in which they arrived, and still reports after a `pause` the bytes that arrived
//!   before the pause took effect;
//! - it reports every fact that is ready before `wait` blocks.

mod accepting;
mod ack_checks;
mod ack_expectation;
mod ack_timestamps;
pub mod epoll;
mod fact;
mod interface;
mod kernel_view;
#[cfg(test)]
mod tests;
pub mod tls;
#[cfg(feature = "io-uring")]
pub mod uring;

pub use interface::{Blocker, Engine, Handshakes, NeverBlocks, Shortages, Wake};
