//! The wire contract over real sockets, against the built binary: what runners, supervisors and operators
//! can rely on, on both engines and with any number of workers.
//!
//! `PILOTLIGHT_ENGINE` chooses the engine; `TEST_SECCOMP=1` filters the workers' system calls.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod commands;
mod connections;
mod json;
mod limits;
mod matching;
mod tables;
mod tls;
mod trust;
mod watching;
mod workers;
