//! Mailboxes: how one worker hands a message to another, and wakes it only while it blocks.
//!
//! Before its thread blocks, the receiver arms its mailbox and then checks it again. The sender sends, and
//! then checks whether the mailbox is armed. Each has a full fence between its two steps, so at least one
//! sees the other's first step. Either the receiver finds the message before it blocks, or the sender wakes
//! it.
//!
//! A wake-up costs both threads more than serving a request. So a worker that has mail for a blocked worker
//! handles it inline, if that worker allows it ([`HandleInline`]). It wakes the other worker only if that fails: a
//! third worker holds the lock, or the blocked thread is just waking up.
//!
//! The queue's type sets no limit, but its use does. A worker has at most one offer and one reply under way
//! per open dispatch connection.

use super::sync::{AtomicBool, Ordering, Receiver, Sender, fence, unbounded};
use crate::broker::io::MeshMessage;
use crate::broker::report::{Command, WorkerReport};
use crate::engine::Wake;
use std::sync::{Arc, OnceLock, Weak};

/// Takes a command's report. A worker's thread calls it, so it must not block.
pub type Reply = Box<dyn Fn(WorkerReport) + Send>;

/// What a worker receives from others.
pub enum Mail {
    /// A message from the worker `from`.
    Mesh { from: usize, message: MeshMessage },
    /// A command from the control thread.
    Command { command: Command, reply: Reply },
}

/// A worker whose mail other workers can handle.
pub trait HandleInline: Send + Sync {
    /// Handles all mail of a worker whose thread blocks. Returns false if another thread holds the worker's lock.
    fn handle_inline(&self) -> bool;
}

/// The sending end of a worker's mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Address {
    queue: Sender<Mail>,
    armed: Arc<AtomicBool>,
    waker: Arc<dyn Wake>,
    inline: Arc<OnceLock<Weak<dyn HandleInline>>>,
}

/// The receiving end of a worker's mailbox.
pub struct Mailbox {
    queue: Receiver<Mail>,
    armed: Arc<AtomicBool>,
}

/// A worker's mailbox; `waker` ends its engine's wait.
pub fn mailbox(waker: Arc<dyn Wake>) -> (Address, Mailbox) {
    let (sender, receiver) = unbounded();
    let armed = Arc::new(AtomicBool::new(false));
    let address = Address { queue: sender, armed: armed.clone(), waker, inline: Arc::default() };
    (address, Mailbox { queue: receiver, armed })
}

impl Address {
    /// Lets other workers handle the owner's mail inline, through `owner`. Only the first call has an effect.
    pub fn handle_inline_by(&self, owner: Weak<dyn HandleInline>) {
        let _ = self.inline.set(owner);
    }

    /// Queues `mail`, and wakes the owner if it blocks. Mail to a worker that has ended is dropped: its sender has a
    /// deadline for the answer.
    pub fn send(&self, mail: Mail) {
        if self.post(mail) {
            self.wake();
        }
    }

    /// Like [`Address::send`], but handles the mail inline if the owner blocks and allows it. For workers only:
    /// the owner's descriptors must be the caller's as well.
    pub fn deliver(&self, mail: Mail) {
        if self.post(mail) && !self.handle_inline() {
            self.wake();
        }
    }

    /// Queues `mail`. Returns true if the owner blocks, or is about to, and may not have seen the mail.
    fn post(&self, mail: Mail) -> bool {
        if self.queue.send(mail).is_err() {
            return false;
        }
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed)
    }

    fn handle_inline(&self) -> bool {
        self.inline.get().and_then(Weak::upgrade).is_some_and(|owner| owner.handle_inline())
    }

    /// Wakes the owner, if it blocks. Of many senders only the first, which disarms the mailbox, makes the call.
    pub fn wake(&self) {
        if self.armed.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.waker.wake();
        }
    }
}

impl Mailbox {
    pub fn take(&self) -> Option<Mail> {
        self.queue.try_recv().ok()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Call it before the owner blocks. Returns false if there is mail: the owner must not block.
    pub fn arm(&self) -> bool {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.disarm();
        false
    }

    /// Call it when the owner is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}
