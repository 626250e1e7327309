//! What the load tools and the harness share.
//!
//! - `message`: the bytes that runners and supervisors send.
//! - `socket`, `epoll`, `http`: one connection of the load, its readiness, the answers on it.
//! - `schedule`: when each run of an open loop is due, and what became of it.
//! - `runners`, `supervisors`: the two sides of a broker, driven by one epoll loop.
//! - `owners`: which of a server's workers owns which connection.
//! - `process`: what a process costs, read from /proc.
//! - `report`: what an open loop found, also where several processes shared it.
//! - `watch`: whether the server's core was taken; `stalls`: what that, and as much of the load's core, decided.

pub mod epoll;
/// The product's own files: `pilotlight bench` reads and counts the same way.
#[path = "../../../../src/clients/bench/reading.rs"]
pub mod http;
pub mod message;
pub mod owners;
pub mod process;
pub mod report;
pub mod runners;
#[path = "../../../../src/clients/bench/schedule.rs"]
pub mod schedule;
pub mod socket;
pub mod stalls;
pub mod supervisors;
pub mod watch;
