//! Mail to one worker: the worker finds it before it blocks, or the sender wakes the worker. It handles no
//! mail twice, and none after its end.

use super::check;
use crate::broker::report::Command;
use crate::handover::{ModelledWorker, command};
use crate::workers::mesh::{Address, Mail, Mailbox, mailbox};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two senders, and a worker that blocks in between. A lost wake-up would leave all threads blocked.
#[test]
fn no_wake_up_is_lost() {
    check(Some(2), || {
        let peer = ModelledWorker::alone();
        let worker = peer.run();
        let sender = thread::spawn({
            let (address, kernel) = (peer.address(), peer.kernel.clone());
            move || address.send(command(Command::Report { keys: None, dispatch_events: None }, &kernel))
        });
        peer.address().send(command(Command::Report { keys: None, dispatch_events: None }, &peer.kernel));
        peer.kernel.until_true(|seen| seen.replies == 2);
        sender.join().unwrap();
        peer.kernel.until_true(|seen| seen.blocked);
        peer.address().send(command(Command::ShutDown, &peer.kernel));
        worker.join().unwrap();
        assert_eq!(peer.kernel.see(|seen| seen.replies), 3, "each mail was handled once");
    });
}

/// The worker handles all mail that comes while it is awake, or before it runs, in order. It needs at most one wake-up
/// per block (which the kernel asserts).
#[test]
fn a_burst_causes_one_wake_up() {
    check(Some(2), || {
        let peer = ModelledWorker::alone();
        let worker = peer.run();
        for _ in 0..4 {
            peer.address().send(command(Command::Report { keys: None, dispatch_events: None }, &peer.kernel));
        }
        peer.kernel.until_true(|seen| seen.replies == 4);
        peer.address().send(command(Command::ShutDown, &peer.kernel));
        worker.join().unwrap();
    });
}

/// Counts the drop of a mail: after it was handled, or with the mailbox.
struct Slip(Arc<AtomicUsize>);

impl Drop for Slip {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A worker ends while others send: no sender blocks, and no mail is left over or handled twice.
#[test]
fn mail_to_a_worker_that_ends_is_handled_or_dropped() {
    check(Some(3), || {
        let peer = ModelledWorker::alone();
        let worker = peer.run();
        let (handled, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let report = |handled: &Arc<AtomicUsize>| {
            let (handled, slip) = (handled.clone(), Slip(gone.clone()));
            let reply = Box::new(move |_| {
                let _ = &slip;
                handled.fetch_add(1, Ordering::Relaxed);
            });
            Mail::Command { command: Command::Report { keys: None, dispatch_events: None }, reply }
        };
        let sender = thread::spawn({
            let (address, mails) = (peer.address(), [report(&handled), report(&handled)]);
            move || mails.into_iter().for_each(|mail| address.send(mail))
        });
        peer.address().send(command(Command::ShutDown, &peer.kernel));
        worker.join().unwrap();
        sender.join().unwrap();
        assert_eq!(peer.kernel.see(|seen| seen.replies), 1, "the reply to the shutdown");
        assert_eq!(gone.load(Ordering::Relaxed), 2, "all mail is dropped");
        assert!(handled.load(Ordering::Relaxed) <= 2);
    });
}

/// The mailbox alone, with a minimal receiver that follows its protocol, and with every preemption.
#[test]
fn the_receiver_or_the_sender_sees_the_other() {
    check(None, || {
        let kernel = crate::kernel::Kernel::new();
        let (address, mailbox): (Address, Mailbox) = mailbox(Arc::new(kernel.clone()));
        let sender = thread::spawn({
            let mail = command(Command::Report { keys: None, dispatch_events: None }, &kernel);
            move || address.send(mail)
        });
        let mut found = mailbox.take().is_some();
        if !found && mailbox.arm() {
            // A block that only a wake-up ends.
            kernel.until_true(|seen| seen.wakes == 1);
            mailbox.disarm();
        }
        found |= mailbox.take().is_some();
        assert!(found, "a receiver that must not block, or that was woken, finds mail");
        assert!(mailbox.take().is_none());
        sender.join().unwrap();
    });
}
