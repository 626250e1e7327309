//! What workers hand things over with, in one place: `tests/model` compiles the files beside this one
//! against a model checker's.

pub use crossbeam_channel::{Receiver, Sender, unbounded};
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::sync::{Mutex, MutexGuard};
