//! Which poll gets the run, and how long a poll is held.

use super::*;

#[test]
fn oldest_first_claims_the_oldest_poll() {
    let mut bench = Bench::new(Settings { match_order: MatchOrder::Oldest, ..settings() });
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.dispatch(2), [Done::Sent(0, run_response(true))]);
}

#[test]
fn the_guard_parks_a_poll_before_its_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    assert_eq!(
        bench.pass_ms(29_000),
        [Done::Probed(0)],
        "the round trip is measured one guard before the guard begins"
    );
    assert_eq!(bench.probed(0, TcpFacts { rtt_us: 50_000, ..CLEAN }), []);
    assert_eq!(bench.pass_ms(399), []);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(true))]);

    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.pass_ms(29_000);
    bench.probed(0, TcpFacts { rtt_us: 50_000, ..CLEAN });
    bench.pass_ms(400);
    assert_eq!(bench.dispatch(1), [answer(1, false)], "parked two round trips before the uncorrected guard");
    assert_eq!(bench.broker.waiting(), 1, "a parked poll stays held");
    assert_eq!(bench.pass_ms(1_099), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)], "connection timeout and guard have passed");
    assert_eq!(bench.broker.counters().polls_expired, 1);
}

#[test]
fn a_guard_longer_than_the_uptime_does_not_underflow() {
    let mut bench = Bench::new(Settings { connection_timeout_ms: 1_000, guard_ms: 900, ..settings() });
    bench.now = Time(0);
    bench.poll(0);
    assert_eq!(bench.pass_ms(0), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, TcpFacts { rtt_us: 500_000, ..CLEAN }), []);
    assert_eq!(bench.dispatch(1), [answer(1, false)]);
}

#[test]
fn the_end_of_an_old_connection_keeps_a_newer_poll_of_its_runner() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.fin(0, None), [Done::Closed(0)]);
    assert_eq!(bench.dispatch(2), [Done::Sent(1, run_response(true))]);
}

#[test]
fn facts_about_an_earlier_generation_are_ignored() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    let old = bench.id(0);
    bench.fin(0, None);
    bench.poll(0);
    for input in [
        Input::Reset { conn: old },
        Input::PeerClosed { conn: old, facts: None },
        Input::Received { conn: old, bytes: b"x" },
        Input::Sent { conn: old },
        Input::Acked { conn: old },
        Input::Probed { conn: old, facts: CLEAN },
    ] {
        assert_eq!(bench.input(input), []);
    }
    assert_eq!(bench.broker.waiting(), 1);
}
