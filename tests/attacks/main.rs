//! Deployment tokens and secrets under attack, over real sockets against the built binary.
//!
//! `PILOTLIGHT_ENGINE` chooses the engine.

#[path = "../support/mod.rs"]
mod support;

mod secrets;
mod tokens;
