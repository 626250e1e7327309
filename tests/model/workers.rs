//! The product's own files, with the model checker's primitives.
#![allow(dead_code)]

#[path = "../../src/workers/event_loop.rs"]
pub mod event_loop;
#[path = "../../src/workers/events.rs"]
pub mod events;
#[path = "../../src/workers/gate.rs"]
pub mod gate;
#[path = "../../src/workers/hints.rs"]
pub mod hints;
#[path = "../../src/workers/mesh.rs"]
pub mod mesh;
#[path = "../../src/workers/pace.rs"]
pub mod pace;
#[path = "sync.rs"]
pub mod sync;
#[path = "../../src/workers/worker.rs"]
pub mod worker;
