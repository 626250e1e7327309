//! The primitives through which workers share data, in one place: `tests/model` compiles the other files of this
//! folder against a model checker's primitives.

pub use crossbeam_channel::{Receiver, Sender, unbounded};
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::sync::{Mutex, MutexGuard};
