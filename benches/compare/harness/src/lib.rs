//! What the load tools and the harness share.
//!
//! - `message`: the bytes that runners and supervisors send.
//! - `socket`, `epoll`, `http`: one connection of the load, its readiness, the answers on it.
//! - `runners`, `supervisors`: the two sides of a broker, driven by one epoll loop.
//! - `owners`: which of a server's workers owns which connection.
//! - `process`: what a process costs, read from /proc.

pub mod epoll;
pub mod http;
pub mod message;
pub mod owners;
pub mod process;
pub mod runners;
pub mod socket;
pub mod supervisors;
