//! Code that the load tools and the harness share.
//!
//! - `message`: the bytes that runners and supervisors send.
//! - `socket`, `epoll`, `http`: a connection of the load, its readiness, its answers.
//! - `schedule`: when each run of an open loop is due, and its outcome.
//! - `runners`, `supervisors`: the two sides of a broker, driven by one epoll loop.
//! - `owners`: which worker of a server owns which connection.
//! - `process`: the cost of a process, read from /proc.
//! - `report`: the figures of an open loop, of one process or several.
//! - `watch`: stalls of the server's core; `stalls`: the dispatches that stalls of either core delayed.

pub mod epoll;
/// The product's own file: `pilotlight bench` reads answers the same way.
#[path = "../../../../src/commands/bench/reading.rs"]
pub mod http;
pub mod message;
pub mod owners;
pub mod process;
pub mod report;
pub mod runners;
#[path = "../../../../src/commands/bench/schedule.rs"]
pub mod schedule;
pub mod socket;
pub mod stalls;
pub mod supervisors;
pub mod watch;
