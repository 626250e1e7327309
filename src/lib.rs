//! Pilotlight: warm starts for self-hosted Trigger.dev.
//!
//! ```text
//! commands -> config -> control -> workers -> engine -> broker
//! ```
//!
//! - [`broker`]: the pure core. No I/O, clock, threads or `unsafe`; time is a parameter.
//! - [`engine`]: the sockets of the data plane, on epoll or io_uring.
//! - [`workers`]: the threads of the data plane, and how they pass dispatches to each other.
//! - [`sys`]: system calls and services of the operating system.
//! - [`config`]: the flags of `serve`, one definition each, and the validated configuration.
//! - [`control`]: the control plane: admin HTTP, metrics, traces, signals.
//! - [`api`]: what the admin side says, as types that its server and its clients share.
//! - [`commands`]: the subcommands, one file or folder each.
//!
//! docs/architecture.md has the map and the invariants. tests/architecture.rs holds the import rules.

pub mod api;
pub mod broker;
pub mod commands;
pub mod config;
pub mod control;
pub mod engine;
pub mod sys;
pub mod workers;
