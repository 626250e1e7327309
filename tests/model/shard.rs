//! The product's own files, with a model checker's primitives beside them.
#![allow(dead_code)]

#[path = "../../src/shard/event_loop.rs"]
pub mod event_loop;
#[path = "../../src/shard/events.rs"]
pub mod events;
#[path = "../../src/shard/gate.rs"]
pub mod gate;
#[path = "../../src/shard/hints.rs"]
pub mod hints;
#[path = "../../src/shard/mesh.rs"]
pub mod mesh;
#[path = "../../src/shard/pace.rs"]
pub mod pace;
#[path = "sync.rs"]
pub mod sync;
#[path = "../../src/shard/worker.rs"]
pub mod worker;
