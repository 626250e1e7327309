//! HTTP/1.1 as the broker understands it, case by case over real sockets, and what becomes of the
//! others when one client misbehaves.
//!
//! `PILOTLIGHT_ENGINE` chooses the engine.

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod robustness;
mod table;
