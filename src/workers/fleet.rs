//! The control thread's handle on the workers.

use super::events::Observed;
use super::mesh::{Address, Mail};
use crate::broker::report::{Command, WorkerReport};
use crate::broker::time::Time;
use crate::sys::listen::Local;
use crossbeam_channel::Receiver;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A handle on all workers. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    bound: Bound,
    engine_name: &'static str,
    workers: Vec<Address>,
    events: Receiver<Observed>,
    /// The origin of the workers' time.
    origin: Instant,
}

/// The addresses of the workers' listeners, port 0 resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub runner: SocketAddr,
    /// `None` where the runner side takes dispatches too.
    pub dispatch: Option<Local>,
}

impl Fleet {
    pub(super) fn new(
        bound: Bound,
        engine_name: &'static str,
        workers: Vec<Address>,
        events: Receiver<Observed>,
        origin: Instant,
    ) -> Fleet {
        Fleet(Arc::new(Inner { bound, engine_name, workers, events, origin }))
    }

    pub fn bound(&self) -> &Bound {
        &self.0.bound
    }

    /// `epoll` or `io-uring`.
    pub fn engine_name(&self) -> &'static str {
        self.0.engine_name
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// The next event that a worker has reported, if there is one, and how long ago it happened.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        let observed = self.0.events.try_recv().ok()?;
        let age = (Time::default() + self.0.origin.elapsed()) - observed.at;
        Some((observed, age))
    }

    /// Sends `command` to every worker. Each worker calls `reply` once, from its own thread, so `reply` must not
    /// block.
    pub fn request(&self, command: Command, reply: impl Fn(WorkerReport) + Send + Clone + 'static) {
        for worker in &self.0.workers {
            worker.send(Mail::Command { command: command.clone(), reply: Box::new(reply.clone()) });
        }
    }
}

pub struct WorkerThreads(Vec<thread::JoinHandle<()>>);

impl WorkerThreads {
    pub(super) fn new(threads: Vec<thread::JoinHandle<()>>) -> WorkerThreads {
        WorkerThreads(threads)
    }

    /// Blocks until all workers have ended.
    pub fn join(self) {
        for thread in self.0 {
            let _ = thread.join();
        }
    }
}
