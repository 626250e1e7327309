//! The built binary, started, asked and ended; and clients that speak to it byte by byte.
//!
//! Shared by the suites that talk to a real broker over real sockets. Each uses a part of it.
#![allow(dead_code)]

pub mod broker;
pub mod client;
pub mod folder;
pub mod judged;
pub mod pki;
pub mod secrets;
pub mod tls;
pub mod token;
pub mod trigger;

use std::thread;
use std::time::{Duration, Instant};

/// Far above what anything takes on a busy machine, so that a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for whatever was going to come to have come.
pub const MOMENT: Duration = Duration::from_millis(120);

/// Waits until `done`; `state` says how things stand if they never are.
#[track_caller]
pub fn wait_until(what: &str, state: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "still not: {what}; {}", state());
        thread::sleep(Duration::from_millis(5));
    }
}
