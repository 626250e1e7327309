//! Cordon and shutdown.

use super::*;

#[test]
fn a_cordon_closes_held_polls_and_keeps_new_ones_unmatched() {
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
fn an_uncordon_during_a_shutdown_makes_no_poll_matchable() {
    let mut bench = Bench::new(settings());
    let node = Selector::Node("node-1".into());
    bench.command(Command::Cordon(node.clone()));
    bench.poll(0);
    bench.poll(1);
    bench.command(Command::ShutDown);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
    bench.command(Command::Uncordon(node));
    assert!(bench.shared.0.buckets.borrow().iter().all(|workers| *workers == 0), "no hint is set");
    assert_eq!(bench.pass_ms(2_499), [Done::Closed(1), Done::ShutdownComplete], "closed in its turn");
}

#[test]
fn a_shutdown_answers_false_finishes_claims_and_closes_polls_one_by_one() {
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

/// Its response did not announce a close, so its next request may be on the way.
#[test]
fn a_shutdown_keeps_connections_whose_close_was_not_announced() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    assert_eq!(bench.receive(0, &dispatch("1")), [answer(0, false)]);
    bench.command(Command::ShutDown);
    assert_eq!(bench.sent(0), [], "a response written before the shutdown keeps its connection");
    assert_eq!(bench.receive(0, &dispatch("1")), [last_answer(0, false)]);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    bench.accept(1);
    let done = bench.receive(1, b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n");
    assert!(matches!(&done[..], [Done::Sent(1, text)] if text.contains("Connection: close")), "{done:?}");
    assert_eq!(bench.sent(1), [Done::Closed(1)]);
}

/// The runner executes its run, and sees the close before it polls again.
#[test]
fn a_shutdown_closes_after_a_confirmed_run() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    bench.command(Command::ShutDown);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [last_answer(1, true), Done::Closed(0)]);
}

#[test]
fn a_shutdown_keeps_no_poll_beyond_its_timeout() {
    let mut bench = Bench::new(Settings { shutdown_time_ms: 60_000, ..settings() });
    bench.poll(0);
    bench.poll(1);
    bench.pass_ms(29_000);
    bench.command(Command::ShutDown);
    // The second poll's turn would come after 30 s, but its timeout and guard pass earlier.
    bench.pass_ms(0);
    assert_eq!(bench.pass_ms(1_499), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::ShutdownComplete]);
}

#[test]
fn a_shutdown_completes_with_the_last_connection() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    bench.command(Command::ShutDown);
    assert_eq!(bench.fin(0, Some(CLEAN)), [last_answer(1, true), Done::Closed(0)]);
    assert_eq!(bench.sent(1), [Done::Closed(1)]);
    assert_eq!(bench.pass_ms(1), [Done::ShutdownComplete], "before the end of the shutdown time");
    assert_eq!(bench.broker.next_deadline(), None);
}

#[test]
fn a_second_shutdown_changes_nothing() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.command(Command::ShutDown), [Done::StopAccepting]);
    bench.pass_ms(100);
    assert_eq!(bench.command(Command::ShutDown), []);
    assert_eq!(bench.pass_ms(2_399), [], "closed in its original turn");
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::ShutdownComplete]);
}

#[test]
fn a_shutdown_waits_for_connections_queued_by_the_kernel() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.command(Command::ShutDown), [Done::StopAccepting]);
    assert_eq!(bench.pass_ms(0), [], "not within the same turn");
    bench.accept(0);
    assert_eq!(bench.pass_ms(1), []);
    assert_eq!(bench.receive(0, &dispatch("1")), [last_answer(0, false)]);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    assert_eq!(bench.pass_ms(0), [Done::ShutdownComplete]);
}
