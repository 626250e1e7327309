//! The connections of a worker: their states, timers and memory.

pub mod budget;
pub mod shutdown_schedule;
mod state;
mod table;
pub mod timer;

pub use state::{Body, BodyFraming, Claim, Connection, NO_GROUP, PendingDispatch, Poll, State};
pub use table::Connections;
