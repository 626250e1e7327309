//! Polls with deployment tokens: expiry, clock, and the deployment that they are held for.

use super::*;
use crate::broker::token::tests::bench;

/// A poll with a token that expires at `exp_s` (Unix time).
fn token_poll(exp_s: u64) -> Vec<u8> {
    let token = bench::token(bench::SECRET, bench::HEADER, &bench::payload("d", "1", exp_s));
    String::from_utf8_lossy(POLL).replace("deployment-id: d", &format!("deployment-id: {token}")).into_bytes()
}

fn enforcing() -> Bench {
    let secret = bench::SECRET.as_bytes();
    Bench::new(Settings {
        token_mode: TokenMode::Enforce,
        token_secrets: Secrets::new([secret]),
        ..settings()
    })
}

#[test]
fn a_poll_is_offered_no_run_after_its_token_expired() {
    // Long before the expiry, 1 ms before it, and at it.
    for (waits_ms, is_offered) in [(1, true), (4_999, true), (5_000, false)] {
        let mut bench = enforcing();
        let unix_us = 1_000_000_000;
        bench.input(Input::WallClock { unix_us });
        bench.accept(0);
        assert_eq!(bench.receive(0, &token_poll(1_005)), []);
        let passed = bench.pass_ms(waits_ms);
        assert_eq!(passed, [], "no probe, no close");
        let done = bench.dispatch(1);
        match is_offered {
            true => assert_eq!(done, [Done::Sent(0, run_response(true))], "after {waits_ms} ms"),
            false => assert_eq!(done, [answer(1, false)], "after {waits_ms} ms"),
        }
    }
}

#[test]
fn a_poll_whose_token_expired_is_held_to_its_timeout() {
    let mut bench = enforcing();
    bench.input(Input::WallClock { unix_us: 1_000_000_000 });
    bench.accept(0);
    assert_eq!(bench.receive(0, &token_poll(1_001)), []);
    assert_eq!(bench.pass_ms(30_499), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
}

#[test]
fn expiry_follows_changes_of_the_clock() {
    let mut bench = enforcing();
    // The clock is set forward beyond the expiry, and back.
    let steps = [(1_000, true), (1_006, false), (1_004, true), (1_005, false)];
    for (slot, (unix_s, is_held)) in (0..).zip(steps) {
        bench.input(Input::WallClock { unix_us: unix_s * 1_000_000 });
        bench.accept(slot);
        let done = bench.receive(slot, &token_poll(1_005));
        match is_held {
            true => assert_eq!(done, [], "at {unix_s}"),
            false => assert!(
                matches!(&done[..], [Done::Sent(_, text)] if text.starts_with("HTTP/1.1 401 ")),
                "at {unix_s}: {done:?}"
            ),
        }
    }
}

#[test]
fn a_cordon_covers_polls_with_tokens_of_the_deployment() {
    let mut bench = enforcing();
    bench.accept(0);
    assert_eq!(bench.receive(0, &token_poll(1_005)), []);
    let selector = Selector::Deployment("d".to_owned());
    assert_eq!(bench.command(Command::Cordon(selector)), [Done::Closed(0)]);
}

#[test]
fn mode_log_holds_polls_with_invalid_tokens_and_counts_the_reasons() {
    let secret = bench::SECRET.as_bytes();
    let mut bench = Bench::new(Settings {
        token_mode: TokenMode::Log,
        token_secrets: Secrets::new([secret]),
        ..settings()
    });
    bench.input(Input::WallClock { unix_us: 1_000_000_000 });
    let good = bench::payload("d", "1", 2_000);
    let ids = [
        "d".to_owned(),
        "a.b.c".to_owned(),
        bench::token(bench::SECRET, r#"{"alg":"none"}"#, &good),
        bench::token(bench::OTHER_SECRET, bench::HEADER, &good),
        bench::token(bench::SECRET, bench::HEADER, r#"{"deployment":"d"}"#),
        bench::token(bench::SECRET, bench::HEADER, &bench::payload("d", "1", 999)),
        bench::token(bench::SECRET, bench::HEADER, &bench::payload("d", "2", 2_000)),
    ];
    for (slot, id) in (0..).zip(&ids) {
        let poll = String::from_utf8_lossy(POLL).replace("deployment-id: d", &format!("deployment-id: {id}"));
        bench.accept(slot);
        assert_eq!(bench.receive(slot, poll.as_bytes()), [], "{id}");
    }
    let counters = bench.broker.counters();
    let counts = [
        counters.token_bare,
        counters.token_malformed,
        counters.token_algorithm,
        counters.token_signature,
        counters.token_claims,
        counters.token_expired,
        counters.token_version,
    ];
    assert_eq!(counts, [1; 7]);
    assert_eq!(bench.broker.waiting(), ids.len());
    // All polls except the one without a readable token wait for runs of the deployment that they name.
    let report = bench.broker.report(bench.now, Some(KeyPage::default()));
    let row = report.keys.iter().find(|row| row.deployment == "d").unwrap();
    assert_eq!(row.waiting, ids.len() as u64 - 1);
    // With other secrets, a previously valid token is invalid.
    bench.command(Command::TokenSecrets(Secrets::new([bench::OTHER_SECRET.as_bytes()])));
    bench.accept(7);
    assert_eq!(bench.receive(7, &token_poll(2_000)), []);
    assert_eq!(bench.broker.counters().token_signature, 2);
}
