//! Whose descriptors are whose, where each worker has a table of its own. (Where all have one, they can handle each
//! other's mail: `event_loop.rs`.)
//!
//! A worker's table begins as a copy of the process's, and a copy keeps open what it shows. So a listener, which
//! must end when its owner closes it, is closed in every table but its owner's as soon as the tables part. What else
//! is copied does no harm: the engines' pollers and wakers, which live as long as the process, and the control
//! plane's runtime, which workers wake through its own. The admin side accepts nobody before the tables have parted.
//! A process that has connections of other kinds by then, as the demo's runners are, keeps one table.

use super::WorkerListeners;
use crate::sys::descriptors;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The listening sockets of the process, by the thread that is to have them.
pub struct Tables {
    workers: Vec<Vec<RawFd>>,
    process: Vec<RawFd>,
}

impl Tables {
    /// `workers`: each one's listeners. `process`: what listens, or holds a listener open, on no worker's behalf.
    pub fn new<'fd>(workers: &[WorkerListeners], process: impl Iterator<Item = BorrowedFd<'fd>>) -> Tables {
        let of_worker = |listeners: &WorkerListeners| -> Vec<RawFd> {
            listeners.iter().map(|(_, listener)| listener.as_fd().as_raw_fd()).collect()
        };
        Tables {
            workers: workers.iter().map(of_worker).collect(),
            process: process.map(|fd| fd.as_raw_fd()).collect(),
        }
    }

    /// What a worker's table begins with of others'.
    pub fn foreign_to(&self, own: usize) -> Vec<RawFd> {
        let others = self.workers.iter().enumerate().filter(|(index, _)| *index != own);
        others.flat_map(|(_, fds)| fds).chain(&self.process).copied().collect()
    }

    /// Closes the workers' listeners in the process's table, once each worker has a table of its own.
    pub fn part(self) {
        self.workers.iter().for_each(|fds| descriptors::close(fds));
    }
}
