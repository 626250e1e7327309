//! Limits per client and on bytes in flight.

use super::super::io::Peer;
use super::*;

const MIB: usize = 1 << 20;

fn peer(bench: &mut Bench, slot: u32, may_dispatch: bool, group: Option<u32>) -> Vec<Done> {
    let conn = bench.id(slot);
    bench.input(Input::Peer { conn, peer: Peer { may_dispatch, group } })
}

fn assert_response(done: &[Done], slot: u32, status: &str) {
    assert!(matches!(done, [Done::Sent(s, text)] if *s == slot && text.starts_with(status)), "{done:?}");
}

fn buffered(bench: &Bench) -> u64 {
    bench.broker.report(bench.now, None).buffered_bytes
}

/// The head of a dispatch with a body of `length` bytes, and the first `sent` of them.
fn incomplete_dispatch(length: usize, sent: usize) -> Vec<u8> {
    let head = format!("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b' '; sent]].concat()
}

#[test]
fn a_dispatch_from_a_forbidden_address_is_403_and_its_polls_are_held() {
    let mut bench = Bench::new(Settings { dispatch_from_anyone: false, ..settings() });
    bench.poll(0);
    for (slot, known) in [(1, false), (2, true)] {
        bench.accept(slot);
        if known {
            assert_eq!(peer(&mut bench, slot, false, None), []);
        }
        assert_response(&bench.receive(slot, &dispatch("1")), slot, "HTTP/1.1 403");
    }
    bench.accept(3);
    peer(&mut bench, 3, false, None);
    assert_eq!(bench.receive(3, POLL), []);
    assert_eq!(bench.broker.waiting(), 2);
    assert_eq!(bench.broker.counters().dispatches_forbidden, 2);
    assert_eq!(bench.broker.counters().attempts, 0, "no run was written");
    bench.accept(4);
    peer(&mut bench, 4, true, None);
    assert_eq!(bench.receive(4, &dispatch("1")), [Done::Sent(3, run_response(true))]);
}

#[test]
fn connections_per_address_are_limited_and_uncounted_when_closed() {
    let mut bench = Bench::new(Settings { connections_per_address_max: 2, ..settings() });
    for slot in 0..2 {
        bench.accept(slot);
        assert_eq!(peer(&mut bench, slot, true, Some(7)), []);
    }
    bench.accept(2);
    assert_eq!(peer(&mut bench, 2, true, Some(7)), [Done::Closed(2)]);
    assert_eq!(bench.fin(0, None), [Done::Closed(0)]);
    bench.accept(0);
    assert_eq!(peer(&mut bench, 0, true, Some(7)), []);
    let counters = bench.broker.counters();
    assert_eq!((counters.refused(), counters.refused_per_address), (1, 1));
    // The refused connection is not counted.
    bench.fin(0, None);
    bench.fin(1, None);
    assert_eq!(bench.shared.0.of_an_address.get(), 0);
}

#[test]
fn polls_per_key_and_per_deployment_are_limited_and_uncounted() {
    let other = String::from_utf8_lossy(POLL).replace("version: 1", "version: 2");
    for (per_key, per_deployment, other_is_held) in [(2, usize::MAX, true), (usize::MAX, 2, false)] {
        let mut bench = Bench::new(Settings {
            polls_per_key_max: per_key,
            polls_per_deployment_max: per_deployment,
            ..settings()
        });
        bench.poll(0);
        bench.poll(1);
        bench.accept(2);
        assert_eq!(bench.receive(2, POLL), [Done::Closed(2)], "closed, never answered");
        bench.accept(3);
        let done = bench.receive(3, other.as_bytes());
        assert_eq!(done.is_empty(), other_is_held, "{done:?}");
        // A claimed poll is still counted.
        bench.dispatch(4);
        bench.accept(5);
        assert_eq!(bench.receive(5, POLL), [Done::Closed(5)]);
        bench.reset(1);
        bench.reset(0);
        bench.accept(6);
        assert_eq!(bench.receive(6, POLL), []);
        let counters = bench.broker.counters();
        let refused = if other_is_held { 2 } else { 3 };
        assert_eq!(counters.refused_per_key + counters.refused_per_deployment, refused);
        assert_eq!((counters.refused(), counters.polls_closed), (refused, refused));
    }
}

#[test]
fn incomplete_bodies_get_three_quarters_of_the_budget() {
    let mut bench = Bench::new(Settings { buffered_bytes_max: 4 * MIB, ..settings() });
    bench.poll(0);
    let mut refused = 0;
    for slot in 1..8 {
        bench.accept(slot);
        let mut done = bench.receive(slot, &incomplete_dispatch(MIB, 0));
        done.extend(bench.receive(slot, &vec![b' '; MIB - 1]));
        if !done.is_empty() {
            assert_response(&done, slot, "HTTP/1.1 503");
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    assert_eq!(bench.broker.counters().refused_bytes, refused);
    assert!(buffered(&bench) <= 3 * MIB as u64);
    assert_eq!(bench.dispatch(9), [Done::Sent(0, run_response(true))]);
    // The bytes of a complete dispatch are released.
    for slot in 1..10 {
        bench.reset(slot);
    }
    bench.fin(0, Some(CLEAN));
    bench.reset(0);
    assert_eq!(buffered(&bench), 0);
    assert!(bench.broker.is_at_rest());
}

#[test]
fn over_budget_an_incomplete_poll_is_closed_and_an_incomplete_dispatch_gets_503() {
    let mut bench = Bench::new(Settings { buffered_bytes_max: MIB, ..settings() });
    for slot in 0..3 {
        bench.accept(slot);
        bench.receive(slot, &incomplete_dispatch(MIB, 0));
        bench.receive(slot, &vec![b' '; 200 << 10]);
    }
    let mut closed = 0;
    for slot in 3..60 {
        bench.accept(slot);
        let head = format!("GET /warm-start HTTP/1.1\r\nX: {}", "x".repeat(15_000));
        match &bench.receive(slot, head.as_bytes())[..] {
            [] => {}
            [Done::Closed(_)] => closed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(closed > 0, "an incomplete poll is closed without an answer");
    bench.accept(60);
    let head = format!("POST /warm-start HTTP/1.1\r\nX: {}", "x".repeat(15_000));
    assert_response(&bench.receive(60, head.as_bytes()), 60, "HTTP/1.1 503");
}

#[test]
fn a_dispatch_over_budget_is_answered_false() {
    let mut bench = Bench::new(Settings { buffered_bytes_max: MIB, ..settings() });
    for slot in 0..3 {
        bench.poll(slot);
    }
    let run = |padding: usize| {
        let message = MESSAGE.replace("VERSION", "1");
        let padding = " ".repeat(padding);
        let body = format!(r#"{{"dequeuedMessage":{}{padding}}}}}"#, &message[..message.len() - 1]);
        format!("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    bench.accept(3);
    assert!(matches!(bench.receive(3, run(300 << 10).as_bytes())[..], [Done::Sent(2, _)]));
    assert_eq!(buffered(&bench) >> 10, 600, "counted for the dispatch and for the claim");
    bench.accept(4);
    assert_eq!(bench.receive(4, run(600 << 10).as_bytes()), [answer(4, false)]);
    assert_eq!(bench.broker.counters().refused_bytes, 1);
    // The supervisor leaves. Its run is still being delivered.
    bench.reset(3);
    assert_eq!(buffered(&bench) >> 10, 300);
    bench.reset(2);
    assert_eq!(buffered(&bench), 0);
}

#[test]
fn no_refusal_overtakes_a_100_that_is_being_written() {
    let mut bench = Bench::new(Settings { buffered_bytes_max: 0, ..settings() });
    bench.accept(0);
    let head = "POST /warm-start HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n";
    // The memory reserved for the body exceeds the budget, and so does a body sent without waiting for the 100.
    for (bytes, done) in
        [(head.as_bytes(), vec![Done::Sent(0, CONTINUE.into()), Done::Paused(0)]), (b" ", vec![])]
    {
        assert_eq!(bench.receive(0, bytes), done);
    }
    let done = bench.sent(0);
    assert_eq!(done[0], Done::Resumed(0));
    assert_response(&done[1..], 0, "HTTP/1.1 503");
    assert_eq!(bench.broker.counters().refused_bytes, 1);
    bench.reset(0);
    assert!(bench.broker.is_at_rest());
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
