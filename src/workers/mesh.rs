//! The mesh: how one worker hands a message to another, and wakes it only when it sleeps.
//!
//! The sleeper arms, looks once more, then blocks; the sender sends, then looks whether the
//! receiver is armed. With a full fence between the two steps on both sides, at least one of them
//! sees the other: a message is found before the sleep, or the sleeper is woken.
//!
//! To wake a worker costs more than to serve a request, for both ends. So a worker that has mail for one that sleeps
//! handles it in the sleeper's place, if the sleeper's door is open ([`Visit`]), and wakes it only where that
//! fails: somebody else is in, or the sleeper is just getting up.
//!
//! The queues are unbounded by type and bounded by use: a worker has at most one offer and one
//! verdict under way per open dispatch connection.

use super::sync::{AtomicBool, Ordering, Receiver, Sender, fence, unbounded};
use crate::broker::io::MeshMessage;
use crate::broker::report::{Command, WorkerReport};
use crate::engine::Wake;
use std::sync::{Arc, OnceLock, Weak};

/// Where a command's report goes. Called on the shard's thread; must not block.
pub type Reply = Box<dyn Fn(WorkerReport) + Send>;

/// What a shard gets from others.
pub enum Mail {
    /// From another worker.
    Mesh {
        /// Index of the sender.
        from: usize,
        /// What it says.
        message: MeshMessage,
    },
    /// From the control plane.
    Command {
        /// What to do.
        command: Command,
        /// Where the receipt goes.
        reply: Reply,
    },
}

/// A core as others find it.
pub trait Visit: Send + Sync {
    /// Handles all mail of a worker that sleeps. False, and nothing is done, unless its door is open.
    fn visit(&self) -> bool;
}

/// Others' end of a shard's queue. Cheap to clone.
#[derive(Clone)]
pub struct Address {
    queue: Sender<Mail>,
    armed: Arc<AtomicBool>,
    waker: Arc<dyn Wake>,
    door: Arc<OnceLock<Weak<dyn Visit>>>,
}

/// The shard's own end.
pub struct Mailbox {
    queue: Receiver<Mail>,
    armed: Arc<AtomicBool>,
}

/// A shard's queue; `waker` ends its engine's wait.
pub fn mailbox(waker: Arc<dyn Wake>) -> (Address, Mailbox) {
    let (sender, receiver) = unbounded();
    let armed = Arc::new(AtomicBool::new(false));
    let address = Address { queue: sender, armed: armed.clone(), waker, door: Arc::default() };
    (address, Mailbox { queue: receiver, armed })
}

impl Address {
    /// Says whose mail may be handled while it sleeps. Only the first time counts.
    pub fn open(&self, door: Weak<dyn Visit>) {
        let _ = self.door.set(door);
    }

    /// Puts `mail` into the queue and wakes its owner if it sleeps. Mail to a shard that has ended
    /// is dropped: whoever waits for an answer has a deadline.
    pub fn send(&self, mail: Mail) {
        if self.post(mail) {
            self.wake();
        }
    }

    /// The same, but handles it right here if its owner sleeps and lets us. For workers only: the owner's descriptors
    /// must be the caller's as well.
    pub fn deliver(&self, mail: Mail) {
        if self.post(mail) && !self.visit() {
            self.wake();
        }
    }

    /// Answers whether the owner sleeps, or is about to, and may not know of the mail.
    fn post(&self, mail: Mail) -> bool {
        if self.queue.send(mail).is_err() {
            return false;
        }
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed)
    }

    fn visit(&self) -> bool {
        self.door.get().and_then(Weak::upgrade).is_some_and(|door| door.visit())
    }

    /// Wakes the owner, if it sleeps. Many senders, one wake-up: the first to disarm does it. Who comes too late
    /// writes nothing.
    pub fn wake(&self) {
        if self.armed.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.waker.wake();
        }
    }
}

impl Mailbox {
    /// The next mail, if there is any.
    pub fn take(&self) -> Option<Mail> {
        self.queue.try_recv().ok()
    }

    /// There is no mail just now.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Says that the owner is about to sleep. False: it must not, there is mail.
    pub fn arm(&self) -> bool {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.disarm();
        false
    }

    /// Says that the owner is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}
