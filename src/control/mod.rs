//! Everything that is not hot: admin HTTP, metrics, logs, signals.
//!
//! One thread (the main one) with its own small runtime. It asks the workers and they answer; they never wait for
//! it, and it never waits long for them.
//!
//! - [`lifecycle`]: start, serve, drain, end.
//! - [`workers`]: asking all workers at once, and noticing one that is silent.
//! - [`watchdog`]: telling the service manager, or not, that all of them are well.
//! - [`admin`]: the routes of the admin side; [`server`]: its connections and their bounds.
//! - [`status`], [`metrics`], [`drain`], [`api`], [`page`]: what those routes say and do.
//! - [`watch`]: the workers' heartbeat and events, of which [`history`] and [`recent`] are remembered.
//! - [`explain`]: why a run would be cold.
//! - [`traces`]: dispatches as spans, for a collector.
//! - [`tokens`]: faults summed up; [`reload`]: secrets and certificates read again.
//! - [`watch`]: a line of the log when a bound turns somebody away.
//! - [`logging`]: where log lines go.

pub mod admin;
pub mod api;
pub mod bounds;
pub mod cordon;
pub mod explain;
pub mod history;
pub mod lifecycle;
pub mod logging;
pub mod metrics;
pub mod page;
pub mod recent;
pub mod reload;
pub mod server;
pub mod status;
pub mod tokens;
pub mod traces;
pub mod watch;
pub mod watchdog;
pub mod workers;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
