//! The control plane: everything that is not on the path of a dispatch or a poll.
//!
//! One thread, the main one, runs it on a tokio runtime. It asks the workers for reports and waits at most a second. The
//! workers never wait for it.
//!
//! - [`lifecycle`]: starts the broker, serves, shuts it down. Also signals, reload and the watchdog.
//! - [`state`]: the workers' reports, the last hour, recent dispatches.
//! - [`observer`]: asks for the reports, takes the workers' events, warns in the log.
//! - [`admin`]: the HTTP server and its routes.
//! - [`metrics`]: what `/metrics` says.
//! - [`traces`]: dispatches as spans, for a collector.
//! - [`logging`]: where log lines go.

pub mod admin;
pub mod lifecycle;
pub mod logging;
pub mod metrics;
pub mod observer;
pub mod state;
pub mod traces;

#[cfg(test)]
mod tests;
