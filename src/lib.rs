//! Pilotlight: warm starts for self-hosted Trigger.dev.
//!
//! ```text
//! bytes -> http -> contract (poll? dispatch?) -> pool (match) -> contract -> http -> bytes
//! ```
//!
//! - [`api`]: what the admin side answers, as types for its server and its clients.
//! - [`broker`]: the pure core. No I/O, clock, threads or unsafe; time is a parameter.
//! - [`engine`]: the only code that knows a system call of the data plane.
//! - [`shard`]: one worker's loop, and the mesh between workers.
//! - [`sys`]: affinity, descriptor limits, socket options.
//! - [`clients`]: runners and supervisors of our own, for `demo`, `check` and `bench`.
//! - [`top`]: the live view of a running broker in a terminal.
//! - [`control`]: everything that is not hot: admin HTTP, metrics, signals.
//!
//! Who may import whom is held by `tests/architecture.rs`.

pub mod api;
pub mod broker;
pub mod cli;
pub mod clients;
pub mod config;
pub mod control;
pub mod engine;
pub mod sys;
pub mod top;
pub mod workers;
