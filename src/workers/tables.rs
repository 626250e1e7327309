//! Which listeners each worker closes when it gets its own table of descriptors. (Workers that share one table can
//! handle each other's mail inline: `event_loop.rs`.)
//!
//! A worker's table begins as a copy of the process's table, and a copy keeps its files open. A listener must
//! end when its owner closes it, so every other table closes it as soon as the tables are separate. The other
//! copies do no harm. The engines' pollers and wakers live as long as the process. So does the control
//! thread's runtime, which workers wake through its eventfd. The admin side accepts no connection before the
//! tables are separate. A process with other connections at that time, such as the demo with its runners,
//! keeps one table.

use super::listeners::WorkerListeners;
use crate::sys::descriptors;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The listening sockets of the process, by the worker that owns them.
pub struct Tables {
    workers: Vec<Vec<RawFd>>,
    process: Vec<RawFd>,
}

impl Tables {
    /// `workers`: each worker's listeners. `process`: descriptors that hold a listener open and belong to no worker.
    pub fn new<'fd>(workers: &[WorkerListeners], process: impl Iterator<Item = BorrowedFd<'fd>>) -> Tables {
        let of_worker = |listeners: &WorkerListeners| -> Vec<RawFd> {
            listeners.iter().map(|(_, listener)| listener.as_fd().as_raw_fd()).collect()
        };
        Tables {
            workers: workers.iter().map(of_worker).collect(),
            process: process.map(|fd| fd.as_raw_fd()).collect(),
        }
    }

    /// The descriptors in a copied table that do not belong to `worker`.
    pub fn foreign_to(&self, worker: usize) -> Vec<RawFd> {
        let others = self.workers.iter().enumerate().filter(|(owner, _)| *owner != worker);
        others.flat_map(|(_, fds)| fds).chain(&self.process).copied().collect()
    }

    /// Closes the workers' listeners in the process's table. Call it once each worker has its own table.
    pub fn close_in_process(self) {
        self.workers.iter().for_each(|fds| descriptors::close(fds));
    }
}
