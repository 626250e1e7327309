//! One core's thread: a turn, then sleep until there is something for the next.
//!
//! The thread has its worker to itself while it is awake. While it sleeps, others may use the worker
//! ([`Visit`]): a worker that has a run for it, or a verdict, handles that in its place, which costs neither of them a
//! wake-up. Only where the engine can block apart from what it knows, and where connections have the same descriptors
//! on every thread.
//!
//! Invariants:
//! - whoever touches the worker holds its lock; the thread holds it from one sleep to the next;
//! - nobody but the thread waits for the lock, so that no two workers ever wait for each other: visitors try it, and
//!   wake the thread if it is taken;
//! - a visitor that leaves something which the sleeper does not know of, and which is due before it gets up, wakes it.

use super::mesh::{Address, Visit};
use super::pace::Pace;
use super::sync::{Mutex, MutexGuard};
use super::worker::Worker;
use crate::engine::{Engine, Sleep};
use crate::sys::cpus;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// A worker and the pace at which its thread works.
pub struct EventLoop<E: Engine> {
    worker: Arc<Shared<E>>,
    pace: Pace,
    handled_inline: bool,
}

struct Shared<E: Engine>(Mutex<Worker<E>>);

impl<E: Engine> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Worker<E>> {
        self.0.lock().expect("nobody panics with a worker in hand")
    }
}

impl<E: Engine + Send> Visit for Shared<E> {
    fn visit(&self) -> bool {
        let Ok(mut worker) = self.0.try_lock() else { return false };
        worker.visited();
        true
    }
}

impl<E: Engine + Send + 'static> EventLoop<E> {
    /// The loop of `worker`, without rests and without visits.
    pub fn new(worker: Worker<E>) -> Self {
        let pace = Pace::new(Duration::ZERO, 0);
        EventLoop { worker: Arc::new(Shared(Mutex::new(worker))), pace, handled_inline: false }
    }

    /// The same, with rests of this length where it takes so much of a processor's time.
    pub fn coalescing(self, by: Duration, from_percent: u32) -> Self {
        EventLoop { pace: Pace::new(by, from_percent), ..self }
    }

    /// The same, and others may handle its mail while it sleeps. `own` is its address. The descriptors that its
    /// engine uses must be the same for whoever has that address.
    pub fn with_inline_handling(mut self, own: &Address) -> Self {
        let worker: Weak<Shared<E>> = Arc::downgrade(&self.worker);
        own.open(worker);
        self.handled_inline = true;
        self
    }

    /// Takes possession of this thread; call it first, on the thread that will run.
    pub fn begin(&mut self) -> io::Result<()> {
        self.worker.lock().begin()
    }

    /// Runs until drained.
    ///
    /// # Errors
    /// Only what the kernel answers to waiting for events, which nothing here can mend.
    pub fn run(mut self) -> io::Result<()> {
        let shared = self.worker.clone();
        let mut worker = shared.lock();
        let mut sleeper = if self.handled_inline { worker.take_blocker() } else { None };
        let mut now = worker.now();
        loop {
            self.rest(&mut worker)?;
            match &mut sleeper {
                None => worker.wait(now)?,
                Some(sleeper) => {
                    let timeout = worker.prepare_to_block(now);
                    drop(worker);
                    sleeper.sleep(timeout)?;
                    worker = shared.lock();
                    worker.unblocked(sleeper);
                }
            }
            now = worker.now();
            self.pace.begin(now);
            worker.turn(now);
            let end = worker.now();
            if self.pace.end(end) {
                self.pace.had(cpus::time_of_this_thread());
            }
            worker.turn_took(end.us_since(now));
            if worker.is_shut_down() {
                return Ok(());
            }
        }
    }

    /// In busy times lets work gather, unless there is some already.
    fn rest(&self, worker: &mut Worker<E>) -> io::Result<()> {
        if let Some(rest) = self.pace.rest()
            && worker.is_idle()?
        {
            thread::sleep(rest);
        }
        Ok(())
    }
}
