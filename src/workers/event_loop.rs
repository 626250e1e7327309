//! One worker's thread: it runs a turn, then blocks until there is something for the next.
//!
//! While the thread is awake, it alone uses its worker. While it blocks, other workers may use it
//! ([`HandleInline`]). A worker that has an offer or a reply for a blocked worker handles that worker's mail
//! itself, which saves both threads a wake-up. This needs an engine whose blocking part can be taken out, and
//! descriptors that mean the same on every thread.
//!
//! Invariants:
//! - A thread that uses the worker holds its lock. The worker's own thread holds the lock except while it
//!   blocks.
//! - Only the worker's own thread waits for the lock. Other threads try it once, and wake the worker's own
//!   thread if it is taken. So no two workers can wait for each other.
//! - Another thread wakes the worker's own thread if it leaves something that is due before that thread would
//!   wake up.

use super::mesh::{Address, HandleInline};
use super::pace::Pace;
use super::sync::{Mutex, MutexGuard};
use super::worker::Worker;
use crate::engine::{Blocker, Engine};
use crate::sys::cpus;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// A worker and the pace of its thread.
pub struct EventLoop<E: Engine> {
    worker: Arc<Shared<E>>,
    pace: Pace,
    handled_inline: bool,
}

struct Shared<E: Engine>(Mutex<Worker<E>>);

impl<E: Engine> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Worker<E>> {
        self.0.lock().expect("no thread panics while it holds the lock")
    }
}

impl<E: Engine + Send> HandleInline for Shared<E> {
    fn handle_inline(&self) -> bool {
        let Ok(mut worker) = self.0.try_lock() else { return false };
        worker.handle_inline();
        true
    }
}

impl<E: Engine + Send + 'static> EventLoop<E> {
    /// The loop of `worker`, without coalescing and without inline handling.
    pub fn new(worker: Worker<E>) -> Self {
        let pace = Pace::new(Duration::ZERO, 0);
        EventLoop { worker: Arc::new(Shared(Mutex::new(worker))), pace, handled_inline: false }
    }

    /// Delays the turns of a busy worker by `delay`; a worker is busy from `from_percent` of a CPU's time on.
    pub fn coalescing(self, delay: Duration, from_percent: u32) -> Self {
        EventLoop { pace: Pace::new(delay, from_percent), ..self }
    }

    /// Lets other workers handle its mail while it blocks. `own` is its address. The threads of all workers that have
    /// that address must share its table of descriptors.
    pub fn with_inline_handling(mut self, own: &Address) -> Self {
        let worker: Weak<Shared<E>> = Arc::downgrade(&self.worker);
        own.handle_inline_by(worker);
        self.handled_inline = true;
        self
    }

    /// Begins the engine. Call it first, on the thread that will run.
    pub fn begin(&mut self) -> io::Result<()> {
        self.worker.lock().begin()
    }

    /// Runs until the worker is shut down.
    ///
    /// # Errors
    /// The kernel's error when the wait for events fails, from which the loop cannot recover.
    pub fn run(mut self) -> io::Result<()> {
        let shared = self.worker.clone();
        let mut worker = shared.lock();
        let mut blocker = if self.handled_inline { worker.take_blocker() } else { None };
        let mut now = worker.now();
        loop {
            self.coalesce(&mut worker)?;
            match &mut blocker {
                None => worker.wait(now)?,
                Some(blocker) => {
                    let timeout = worker.prepare_to_block(now);
                    drop(worker);
                    blocker.block(timeout)?;
                    worker = shared.lock();
                    worker.unblocked(blocker);
                }
            }
            now = worker.now();
            self.pace.begin_turn(now);
            worker.turn(now);
            let end = worker.now();
            if self.pace.end_turn(end) {
                self.pace.record_cpu_time(cpus::thread_cpu_time());
            }
            worker.record_turn(end.us_since(now));
            if worker.is_shut_down() {
                return Ok(());
            }
        }
    }

    /// Lets work gather if the worker is busy and has nothing to do right now.
    fn coalesce(&self, worker: &mut Worker<E>) -> io::Result<()> {
        if let Some(delay) = self.pace.coalesce_delay()
            && worker.is_idle()?
        {
            thread::sleep(delay);
        }
        Ok(())
    }
}
