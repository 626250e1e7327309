//! Replaces `src/workers/sync.rs`: loom's atomics, and a queue that guarantees no more than the channel does.
//!
//! Like the channel's tail, the queue has one atomic. A send is a read-modify-write with release. A check is a load with
//! acquire, which may miss the latest send. A queue behind a lock would order more than the channel does, and would
//! hide a missing fence.

pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub use loom::sync::{Mutex, MutexGuard};

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

/// The tail's lowest bit: the receiver is gone.
const GONE: usize = 1;
/// What one send adds to the tail.
const SEND: usize = 2;

struct Queue<T> {
    /// Sends so far, and whether the receiver is gone.
    tail: AtomicUsize,
    /// The model checker does not see it. It contains everything that `tail` counts.
    mail: std::sync::Mutex<VecDeque<T>>,
}

pub struct Sender<T>(Arc<Queue<T>>);

pub struct Receiver<T> {
    queue: Arc<Queue<T>>,
    taken: Cell<usize>,
}

pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue { tail: AtomicUsize::new(0), mail: std::sync::Mutex::default() });
    (Sender(queue.clone()), Receiver { queue, taken: Cell::new(0) })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Gives the mail back if the receiver is gone.
    pub fn send(&self, mail: T) -> Result<(), T> {
        if self.0.tail.fetch_add(SEND, Ordering::Release) & GONE != 0 {
            return Err(mail);
        }
        self.0.mail.lock().unwrap().push_back(mail);
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub fn is_empty(&self) -> bool {
        self.queue.tail.load(Ordering::Acquire) / SEND == self.taken.get()
    }

    pub fn try_recv(&self) -> Result<T, ()> {
        if self.is_empty() {
            return Err(());
        }
        self.taken.set(self.taken.get() + 1);
        Ok(self.queue.mail.lock().unwrap().pop_front().expect("tail counted it"))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.queue.tail.fetch_or(GONE, Ordering::AcqRel);
        let dropped = std::mem::take(&mut *self.queue.mail.lock().unwrap());
        drop(dropped);
    }
}
