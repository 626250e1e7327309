//! When a delivery counts: FIN, acknowledgement, silence, reset.

use super::*;

#[test]
fn read_is_true_at_the_clean_fin_and_not_before() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(true))]);
    assert_eq!(bench.sent(0), []);
    assert_eq!(bench.fin(0, Some(CLEAN)), [answer(1, true), Done::Closed(0)]);
    assert_eq!(bench.broker.counters().warm, 1);
}

#[test]
fn a_fin_with_bytes_unacknowledged_waits_for_what_follows() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.fin(0, Some(unacked(9))), []);
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(9)), []);
    assert_eq!(bench.pass_ms(2), [Done::Probed(0)]);
    let dead = TcpFacts { alive: false, ..CLEAN };
    assert_eq!(bench.probed(0, dead), [Done::Aborted(0), answer(1, false)]);
}

#[test]
fn a_fin_before_the_bytes_is_no_proof() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.fin(0, Some(CLEAN)), [Done::Aborted(0), answer(1, false)]);
}

#[test]
fn a_fin_that_is_there_is_proof_before_its_event_is() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, CLEAN), []);
    assert_eq!(bench.pass_ms(700), [Done::Probed(0)], "the read timeout");
    assert_eq!(bench.probed(0, TcpFacts { fin: true, ..CLEAN }), [answer(1, true), Done::Closed(0)]);
}

#[test]
fn a_reset_passes_the_run_to_the_next_newest_poll() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    bench.poll(2);
    assert_eq!(bench.dispatch(3), [Done::Sent(2, run_response(true))]);
    assert_eq!(bench.reset(2), [Done::Aborted(2), Done::Sent(1, run_response(true))]);
    bench.sent(1);
    assert_eq!(bench.fin(1, Some(CLEAN)), [answer(3, true), Done::Closed(1)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn silence_is_given_up_at_the_ack_timeout_and_attempts_are_bounded() {
    let mut bench = Bench::new(settings());
    for slot in 0..4 {
        bench.poll(slot);
    }
    assert_eq!(bench.dispatch(4), [Done::Sent(3, run_response(true))]);
    let len = run_response(true).len() as u64;
    for slot in [3, 2, 1] {
        bench.sent(slot);
        assert_eq!(bench.pass_ms(299), []);
        assert_eq!(bench.pass_ms(1), [Done::Probed(slot)]);
        let done = bench.probed(slot, unacked(len));
        let next = if slot > 1 { Done::Sent(slot - 1, run_response(true)) } else { answer(4, false) };
        assert_eq!(done, [Done::Aborted(slot), next]);
    }
    assert_eq!(bench.broker.waiting(), 1, "the fourth was not tried");
    assert_eq!(bench.broker.counters().unconfirmed, 1);
}

#[test]
fn frozen_is_acknowledged_but_unread_for_the_read_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(0)), []);
    assert_eq!(bench.pass_ms(699), []);
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(0)), [Done::Aborted(0), answer(1, false)]);
    assert_eq!(bench.broker.counters().attempts_read_timeout, 1);
}

#[test]
fn progress_of_a_long_response_earns_more_time_up_to_the_dispatch_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    let mut left = 100;
    for _ in 0..6 {
        assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
        left -= 1;
        assert_eq!(bench.probed(0, unacked(left)), []);
    }
    // 1.8 s have passed; at 2 s both the claim and the dispatch are over, whichever comes first.
    let mut done = bench.pass_ms(200);
    done.sort_by_key(|done| matches!(done, Done::Aborted(_)));
    assert_eq!(done, [answer(1, false), Done::Aborted(0)]);
}

#[test]
fn ack_is_true_at_the_acknowledgement_and_keeps_the_connection() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(false))]);
    assert_eq!(bench.sent(0), []);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [answer(1, true)]);
    assert_eq!(bench.receive(0, POLL), [], "the same connection polls again");
    assert_eq!(bench.broker.waiting(), 1);
}

/// The engine was asked, and both were there by then.
#[test]
fn ack_is_true_where_a_reset_followed_the_acknowledgement() {
    for sent in [true, false] {
        let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
        bench.poll(0);
        bench.dispatch(1);
        if sent {
            bench.sent(0);
        }
        assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
        let dead = TcpFacts { alive: false, ..CLEAN };
        let done = bench.probed(0, dead);
        assert!(done.contains(&answer(1, sent)), "{done:?}");
    }
}

#[test]
fn a_poll_that_comes_before_its_acknowledgement_is_seen_waits_its_turn() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.receive(0, POLL), []);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [answer(1, true)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn write_is_true_when_the_kernel_took_the_bytes() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Write, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.sent(0), [answer(1, true)]);
}

#[test]
fn a_supervisor_that_hangs_up_leaves_nothing_behind() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.reset(1);
    bench.sent(0);
    assert_eq!(bench.fin(0, Some(CLEAN)), [Done::Closed(0)]);
    assert_eq!((bench.broker.connections(), bench.broker.waiting()), (0, 0));
    assert_eq!(bench.broker.next_deadline(), None);
    bench.command(Command::Report { keys: Some(KeyPage::default()), dispatch_events: None });
    let report = bench.reports.pop().unwrap();
    assert_eq!((report.claimed, report.keys.len(), report.keys[0].waiting), (0, 1, 0));
}

#[test]
fn the_confirmation_asked_of_the_engine_is_the_modes() {
    for (confirm, expected) in [
        (Confirm::Read, SendConfirm::Closed),
        (Confirm::Ack, SendConfirm::Acked),
        (Confirm::Write, SendConfirm::None),
    ] {
        let mut bench = Bench::new(Settings { confirm, ..settings() });
        bench.poll(0);
        bench.accept(1);
        let (conn, bytes) = (bench.id(1), dispatch("1"));
        bench.broker.handle(bench.now, Input::Received { conn, bytes: &bytes });
        let confirms: Vec<SendConfirm> = std::iter::from_fn(|| bench.broker.poll_output())
            .filter_map(|output| match output {
                Output::Send { confirm, .. } => Some(confirm),
                _ => None,
            })
            .collect();
        assert_eq!(confirms, [expected]);
    }
}

#[test]
fn a_fin_that_is_told_again_and_again_does_not_bring_the_next_question_nearer() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    for _ in 0..100 {
        assert_eq!(bench.fin(0, Some(unacked(9))), []);
    }
    assert_eq!(bench.pass_ms(299), [], "as long as the acknowledgement may take");
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(9)), [Done::Aborted(0), answer(1, false)]);
}
