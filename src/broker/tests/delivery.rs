//! When a delivery is proven: FIN, acknowledgement, silence, reset.

use super::*;

#[test]
fn read_confirms_at_a_clean_fin() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(true))]);
    assert_eq!(bench.sent(0), []);
    assert_eq!(bench.fin(0, Some(CLEAN)), [answer(1, true), Done::Closed(0)]);
    assert_eq!(bench.broker.counters().warm, 1);
}

#[test]
fn a_fin_with_unacknowledged_bytes_is_probed_until_decided() {
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
fn a_fin_before_the_run_was_sent_is_not_a_proof() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.fin(0, Some(CLEAN)), [Done::Aborted(0), answer(1, false)]);
}

#[test]
fn a_fin_seen_by_a_probe_confirms_before_its_event() {
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
fn reset_offers_the_run_to_the_next_poll() {
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
fn silent_polls_are_released_at_the_ack_timeout_and_attempts_are_limited() {
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
fn an_acknowledged_unread_run_is_released_at_the_read_timeout() {
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
fn progress_extends_an_attempt_up_to_the_dispatch_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    let mut left = 100;
    for _ in 0..6 {
        assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
        left -= 1;
        assert_eq!(bench.probed(0, unacked(left)), []);
    }
    // After 1.8 s. At 2 s both the claim and the dispatch end, in either order.
    let mut done = bench.pass_ms(200);
    done.sort_by_key(|done| matches!(done, Done::Aborted(_)));
    assert_eq!(done, [answer(1, false), Done::Aborted(0)]);
}

#[test]
fn ack_confirms_at_the_acknowledgement_and_keeps_the_connection() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(false))]);
    assert_eq!(bench.sent(0), []);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [answer(1, true)]);
    assert_eq!(bench.receive(0, POLL), [], "the same connection polls again");
    assert_eq!(bench.broker.waiting(), 1);
}

/// The facts arrive after both the acknowledgement and the reset.
#[test]
fn ack_confirms_although_a_reset_followed() {
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
fn a_poll_before_the_acknowledgement_is_buffered() {
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
fn write_confirms_when_the_kernel_took_the_bytes() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Write, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.sent(0), [answer(1, true)]);
}

#[test]
fn a_supervisor_that_leaves_early_leaks_nothing() {
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
fn each_mode_requests_its_confirmation() {
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
fn repeated_fin_reports_do_not_advance_the_next_probe() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    for _ in 0..100 {
        assert_eq!(bench.fin(0, Some(unacked(9))), []);
    }
    assert_eq!(bench.pass_ms(299), [], "the ack timeout has not passed");
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(9)), [Done::Aborted(0), answer(1, false)]);
}
