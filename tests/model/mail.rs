//! Mail to one worker: found before its sleep, or a wake-up; once; and no more after its end.

use super::check;
use crate::broker::report::Command;
use crate::handover::{Core, command};
use crate::shard::mesh::{Address, Mail, Mailbox, mailbox};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two senders, a worker that goes to sleep in between. A wake-up lost leaves everybody asleep.
#[test]
fn no_wake_up_is_lost() {
    check(Some(2), || {
        let core = Core::alone();
        let worker = core.run();
        let sender = thread::spawn({
            let (address, kernel) = (core.address(), core.kernel.clone());
            move || address.send(command(Command::Report { keys: None, dispatch_events: None }, &kernel))
        });
        core.address().send(command(Command::Report { keys: None, dispatch_events: None }, &core.kernel));
        core.kernel.until_true(|seen| seen.receipts == 2);
        sender.join().unwrap();
        core.kernel.until_true(|seen| seen.asleep);
        core.address().send(command(Command::Drain, &core.kernel));
        worker.join().unwrap();
        assert_eq!(core.kernel.look(|seen| seen.receipts), 3, "each mail was handled once");
    });
}

/// However many are sent while it is awake, or before it runs: all are handled, in order, by as
/// many wake-ups as there were sleeps (which the kernel asserts).
#[test]
fn a_burst_needs_no_room_and_one_wake_up() {
    check(Some(2), || {
        let core = Core::alone();
        let worker = core.run();
        for _ in 0..4 {
            core.address().send(command(Command::Report { keys: None, dispatch_events: None }, &core.kernel));
        }
        core.kernel.until_true(|seen| seen.receipts == 4);
        core.address().send(command(Command::Drain, &core.kernel));
        worker.join().unwrap();
    });
}

/// Counts what becomes of a mail: handled, or dropped with the mailbox.
struct Slip(Arc<AtomicUsize>);

impl Drop for Slip {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A shard that ends while others send: nobody blocks, and no mail is left over or handled twice.
#[test]
fn mail_to_a_shard_that_ends_is_handled_or_dropped() {
    check(Some(3), || {
        let core = Core::alone();
        let worker = core.run();
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
            let (address, mails) = (core.address(), [report(&handled), report(&handled)]);
            move || mails.into_iter().for_each(|mail| address.send(mail))
        });
        core.address().send(command(Command::Drain, &core.kernel));
        worker.join().unwrap();
        sender.join().unwrap();
        assert_eq!(core.kernel.look(|seen| seen.receipts), 1, "the drain's");
        assert_eq!(gone.load(Ordering::Relaxed), 2, "nobody keeps mail for the dead");
        assert!(handled.load(Ordering::Relaxed) <= 2);
    });
}

/// The mailbox alone, with the smallest owner that keeps to its contract, and every preemption.
#[test]
fn the_sleeper_or_the_sender_sees_the_other() {
    check(None, || {
        let kernel = crate::kernel::Kernel::new();
        let (address, mailbox): (Address, Mailbox) = mailbox(Arc::new(kernel.clone()));
        let sender = thread::spawn({
            let mail = command(Command::Report { keys: None, dispatch_events: None }, &kernel);
            move || address.send(mail)
        });
        let mut found = mailbox.take().is_some();
        if !found && mailbox.arm() {
            // A sleep: only a wake-up ends it.
            kernel.until_true(|seen| seen.wakes == 1);
            mailbox.disarm();
        }
        found |= mailbox.take().is_some();
        assert!(found, "whoever may not sleep, and whoever is woken, finds mail");
        assert!(mailbox.take().is_none());
        sender.join().unwrap();
    });
}
