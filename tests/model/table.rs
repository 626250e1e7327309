//! The shared table: hints that two workers change at the same time, and the count of connections.

use super::check;
use crate::broker::io::Shared;
use crate::workers::hints::Hints;
use loom::thread;

/// Two workers announce and withdraw in one bucket at the same time: no bit is lost or left over.
#[test]
fn a_worker_changes_only_its_own_hint() {
    check(None, || {
        let hints = Hints::with_sizes(1, 1);
        let other = thread::spawn({
            let hints = hints.clone();
            move || {
                hints.announce(0, 1);
                assert_eq!(hints.holders(0).0 & 2, 2, "a worker sees its own hint");
            }
        });
        hints.announce(0, 0);
        hints.withdraw(0, 0);
        hints.announce(0, 2);
        other.join().unwrap();
        assert_eq!(hints.holders(0).0, 0b110);
    });
}

/// At the limit, workers that accept at the same time never accept one too many, and never count a connection
/// that has ended.
#[test]
fn the_connection_limit_holds_for_all_workers_together() {
    check(None, || {
        let hints = Hints::with_sizes(1, 1);
        assert!(hints.open_connection(2));
        let other = thread::spawn({
            let hints = hints.clone();
            move || hints.open_connection(2)
        });
        let here = hints.open_connection(2);
        let there = other.join().unwrap();
        assert!(here != there, "one connection was left, and one worker got it");
        hints.close_connection();
        assert!(hints.open_connection(2) && !hints.open_connection(2));
    });
}
