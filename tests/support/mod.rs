//! Code that the integration suites share: the broker as a process, clients that control every byte, keys,
//! runs, tokens and certificates. Each suite uses a part of it.
#![allow(dead_code)]

pub mod binary;
pub mod broker;
pub mod client;
pub mod folder;
pub mod pki;
pub mod process;
pub mod secrets;
pub mod tls;
pub mod token;
pub mod trigger;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than any step needs on a busy machine, so that a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for bytes that are on their way to arrive.
pub const MOMENT: Duration = Duration::from_millis(120);

/// Locks a mutex, also if a test has panicked with it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `done`. On a timeout the failure shows `state`.
#[track_caller]
pub fn wait_until(what: &str, state: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "still not: {what}; {}", state());
        thread::sleep(Duration::from_millis(5));
    }
}
