//! Drain and cordon.

use super::*;

#[test]
fn a_cordon_empties_a_node_and_holds_its_new_polls_back_until_it_is_lifted() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    let node = Selector::Node("node-1".into());
    assert_eq!(bench.command(Command::Cordon(node.clone())), [Done::Closed(0)]);
    bench.poll(1);
    assert_eq!(bench.dispatch(2), [answer(2, false)]);
    bench.sent(2);
    assert_eq!(bench.command(Command::Uncordon(node)), []);
    assert_eq!(bench.receive(2, &dispatch("1")), [Done::Sent(1, run_response(true))]);
}

#[test]
fn a_cordon_lifted_in_a_drain_lets_nobody_match() {
    let mut bench = Bench::new(settings());
    let node = Selector::Node("node-1".into());
    bench.command(Command::Cordon(node.clone()));
    bench.poll(0);
    bench.poll(1);
    bench.command(Command::ShutDown);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
    bench.command(Command::Uncordon(node));
    assert!(bench.shared.0.buckets.borrow().iter().all(|workers| *workers == 0), "no worker may be asked");
    assert_eq!(bench.pass_ms(2_499), [Done::Closed(1), Done::ShutdownComplete], "in its turn");
}

#[test]
fn a_drain_answers_false_finishes_claims_and_closes_polls_one_by_one() {
    let mut bench = Bench::new(settings());
    for slot in 0..3 {
        bench.poll(slot);
    }
    bench.dispatch(3);
    bench.sent(2);
    assert_eq!(bench.command(Command::ShutDown), [Done::StopAccepting]);
    bench.accept(4);
    assert_eq!(bench.receive(4, &dispatch("1")), [last_answer(4, false)]);
    assert_eq!(bench.sent(4), [Done::Closed(4)]);
    assert_eq!(bench.fin(2, Some(CLEAN)), [last_answer(3, true), Done::Closed(2)]);
    assert_eq!(bench.sent(3), [Done::Closed(3)]);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
    assert_eq!(bench.pass_ms(2_498), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::ShutdownComplete]);
}

/// It was told that it may ask again, and may be doing so.
#[test]
fn a_drain_keeps_who_was_not_told_that_the_connection_ends() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    assert_eq!(bench.receive(0, &dispatch("1")), [answer(0, false)]);
    bench.command(Command::ShutDown);
    assert_eq!(bench.sent(0), [], "what was sent before the drain is told within it");
    assert_eq!(bench.receive(0, &dispatch("1")), [last_answer(0, false)]);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    bench.accept(1);
    let done = bench.receive(1, b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n");
    assert!(matches!(&done[..], [Done::Sent(1, text)] if text.contains("Connection: close")), "{done:?}");
    assert_eq!(bench.sent(1), [Done::Closed(1)]);
}

/// It is in the middle of its run, and knows of the end before it polls again.
#[test]
fn a_drain_closes_behind_a_run() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    bench.command(Command::ShutDown);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [last_answer(1, true), Done::Closed(0)]);
}

#[test]
fn a_drain_keeps_no_poll_past_its_time() {
    let mut bench = Bench::new(Settings { shutdown_time_ms: 60_000, ..settings() });
    bench.poll(0);
    bench.poll(1);
    bench.pass_ms(29_000);
    bench.command(Command::ShutDown);
    // The second one's turn would come after 30 s; it is over after one and the guard.
    bench.pass_ms(0);
    assert_eq!(bench.pass_ms(1_499), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::ShutdownComplete]);
}

#[test]
fn a_drain_ends_when_the_last_one_has_left() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    bench.command(Command::ShutDown);
    assert_eq!(bench.fin(0, Some(CLEAN)), [last_answer(1, true), Done::Closed(0)]);
    assert_eq!(bench.sent(1), [Done::Closed(1)]);
    assert_eq!(bench.pass_ms(1), [Done::ShutdownComplete], "not at the end of the drain time");
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn a_second_drain_changes_nothing() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.command(Command::ShutDown), [Done::StopAccepting]);
    bench.pass_ms(100);
    assert_eq!(bench.command(Command::ShutDown), []);
    assert_eq!(bench.pass_ms(2_399), [], "in its old turn");
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::ShutdownComplete]);
}

#[test]
fn a_drain_waits_for_what_the_kernel_had_queued() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.command(Command::ShutDown), [Done::StopAccepting]);
    assert_eq!(bench.pass_ms(0), [], "not in this turn");
    bench.accept(0);
    assert_eq!(bench.pass_ms(1), []);
    assert_eq!(bench.receive(0, &dispatch("1")), [last_answer(0, false)]);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    assert_eq!(bench.pass_ms(0), [Done::ShutdownComplete]);
}
