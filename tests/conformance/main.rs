//! HTTP/1.1 case by case over real sockets, and the service for other clients while one misbehaves.
//!
//! `PILOTLIGHT_ENGINE` chooses the engine.

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod robustness;
mod table;
