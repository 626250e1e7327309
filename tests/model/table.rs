//! The shared table: hints that two workers change at once, and the count of connections.

use super::check;
use crate::broker::io::Shared;
use crate::workers::hints::Hints;
use loom::thread;

/// Two workers announce and withdraw in one bucket at once: neither's bit is lost or left over.
#[test]
fn one_core_s_hint_is_not_another_s_to_change() {
    check(None, || {
        let hints = Hints::with_sizes(1, 1);
        let other = thread::spawn({
            let hints = hints.clone();
            move || {
                hints.announce(0, 1);
                assert_eq!(hints.holders(0).0 & 2, 2, "its own hint, at once");
            }
        });
        hints.announce(0, 0);
        hints.withdraw(0, 0);
        hints.announce(0, 2);
        other.join().unwrap();
        assert_eq!(hints.holders(0).0, 0b110);
    });
}

/// At the limit, workers that accept at once never let in one too many, nor count one that left.
#[test]
fn the_connection_limit_holds_for_all_cores_together() {
    check(None, || {
        let hints = Hints::with_sizes(1, 1);
        assert!(hints.open_connection(2));
        let other = thread::spawn({
            let hints = hints.clone();
            move || hints.open_connection(2)
        });
        let here = hints.open_connection(2);
        let there = other.join().unwrap();
        assert!(here != there, "one place was left, and one of them got it");
        hints.close_connection();
        assert!(hints.open_connection(2) && !hints.open_connection(2));
    });
}
