//! The workers: one thread each, with its own listeners, connections and key index. Mailboxes carry runs between them.

mod engine_choice;
mod error;
pub mod event_loop;
pub mod events;
mod fleet;
pub mod gate;
pub mod hints;
mod listeners;
pub mod mesh;
mod pace;
mod start;
mod sync;
mod tables;
mod thread;
pub mod worker;

pub use error::StartError;
pub use events::Observed;
pub use fleet::{Bound, Fleet, WorkerThreads};
pub use start::{Started, start};
