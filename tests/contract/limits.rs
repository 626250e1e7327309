//! Limits, cordons and shutdown: a runner never gets any answer but its run.

use crate::support::MOMENT;
use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::trigger::{self, Key};
use nix::sys::signal::Signal;
use std::thread;
use std::time::{Duration, Instant};

/// Enough connections that both workers use up their own share of the limit.
const MANY: usize = 200;

#[test]
fn at_capacity_connections_are_closed_without_an_answer() {
    for workers in [1, 2] {
        let flags = format!("--workers {workers} --max-connections {MANY} --confirm write");
        let broker = Broker::start(&flags);
        let key = Key::fresh();
        let mut polls = broker.polls(&key, MANY);
        for request in [key.poll().into_bytes(), key.dispatch(), trigger::CONNECT.to_vec()] {
            let mut client = broker.client();
            // The broker may close it before all of it is sent.
            let _ = client.try_send(request);
            client.expect_gone();
        }
        broker.wait_for("refused", 3);
        polls.iter_mut().for_each(|poll| poll.expect_silence(Duration::from_millis(1)));
        // A free slot can be used again.
        drop(polls.pop());
        broker.wait_for("connections", MANY as u64 - 1);
        assert!(broker.dispatch(&key.message()));
    }
}

/// Clients open connections early: the broker closes those without a byte to make room.
#[test]
fn silent_connections_are_evicted_first() {
    let broker = Broker::start("--workers 1 --max-connections 8");
    let key = Key::fresh();
    let mut silent: Vec<Client> = (0..8).map(|_| broker.client()).collect();
    broker.wait_for("connections", 8);
    // Held one by one: the run goes to the last one.
    let mut polls: Vec<Client> = (0..5).map(|_| broker.poll(&key)).collect();
    for evicted in &mut silent[..5] {
        evicted.expect_gone();
    }
    broker.deliver(&key, &mut polls[4]);
    assert_eq!(silent[7].ask(trigger::CONNECT).status, 200);
    broker.wait_for("evicted", 5);
    broker.wait_for("refused", 0);
}

#[test]
fn keys_up_to_the_limit() {
    let broker = Broker::start("--workers 1 --max-keys 3");
    let keys: Vec<Key> = (0..4).map(|_| Key::fresh()).collect();
    let mut polls: Vec<Client> = keys[..3].iter().map(|key| broker.poll(key)).collect();
    let mut fourth = broker.client();
    fourth.send(keys[3].poll());
    fourth.expect_closed();
    assert!(!broker.dispatch(&keys[3].message()));
    // The broker first forgets a key without a poll.
    broker.deliver(&keys[1], &mut polls[1]);
    let mut fourth = broker.poll(&keys[3]);
    broker.deliver(&keys[3], &mut fourth);
    broker.deliver(&keys[0], &mut polls[0]);
}

#[test]
fn bodies_up_to_the_limit() {
    let broker = Broker::start("--workers 1 --max-body 4000");
    let body = trigger::body(&Key::fresh().message());
    let padded = |length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    let chunked = |length: usize| {
        let body = padded(length);
        let (first, second) = body.split_at(3_000);
        format!(
            "POST /warm-start HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        )
    };
    let mut client = broker.supervisor();
    assert!(!client.ask(trigger::post(padded(4_000))).did_warm_start());
    assert!(!client.ask(chunked(4_000)).did_warm_start());
    for request in [trigger::post(padded(4_001)), chunked(4_001).into_bytes()] {
        let mut client = broker.supervisor();
        let refusal = client.ask(request);
        assert_eq!((refusal.status, refusal.says_close()), (413, true));
        assert!(refusal.error().contains("body"), "{refusal:?}");
        client.expect_closed();
    }
    // The broker refuses the announced length and does not wait for the body.
    for announced in ["4001", "18446744073709551615"] {
        let mut client = broker.supervisor();
        let head = format!("POST /warm-start HTTP/1.1\r\nHost: a\r\nContent-Length: {announced}\r\n\r\n");
        assert_eq!(client.ask(head).status, 413);
        client.expect_closed();
    }
}

#[test]
fn heads_up_to_the_limit() {
    let broker = Broker::start("--workers 1 --max-head 1024");
    let head = |length: usize| {
        let least = "GET /connect HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET /connect HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - least))
    };
    let mut client = broker.client();
    assert_eq!(client.ask(head(1_024)).status, 200);
    assert_eq!(client.ask(head(1_024)).status, 200);
    let refusal = client.ask(head(1_025));
    assert_eq!((refusal.status, refusal.says_close()), (431, true));
    client.expect_closed();
    for (request, status) in [
        // Refused before its end.
        (format!("GET /connect HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(2_000)), 431),
        (format!("GET /{}", "x".repeat(2_000)), 414),
        (format!("GET /connect HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(63)), 200),
        (format!("GET /connect HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(64)), 431),
        (head(1_024).replace("GET /connect", "GET /connecT"), 404),
    ] {
        let mut client = broker.client();
        assert_eq!(client.ask(&request).status, status, "{request}");
        if status != 200 {
            client.expect_closed();
        }
    }
}

#[test]
fn an_expired_poll_is_closed() {
    let broker = Broker::start("--workers 1 --connection-timeout 1s");
    let key = Key::fresh();
    let began = Instant::now();
    let mut poll = broker.poll(&key);
    thread::sleep(Duration::from_millis(900));
    // The poll is parked: its client is about to give up.
    assert!(!broker.dispatch(&key.message()));
    poll.expect_closed();
    assert!(began.elapsed() >= Duration::from_secs(1));
    broker.wait_for("polls_expired", 1);
}

#[test]
fn a_cordoned_node_gets_no_run() {
    let broker = Broker::start("--workers 2");
    let key = Key::fresh();
    let elsewhere = key.poll().replace("instance-name: node-1", "instance-name: node-2");
    let mut polls = broker.polls(&key, 4);
    let mut other = broker.client();
    broker.hold(&mut other, elsewhere);
    let cordon = |method: &str| {
        let body = r#"{"node":"node-1"}"#;
        let length = body.len();
        Client::connect(broker.admin).ask(format!(
            "{method} /cordon HTTP/1.1\r\nhost: broker\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    };
    assert_eq!(cordon("POST").json()["cordons"][0]["node"], "node-1");
    polls.iter_mut().for_each(Client::expect_closed);
    // Its runners poll again: the broker holds them and gives them no run.
    let mut held = broker.poll(&key);
    broker.deliver(&key, &mut other);
    assert!(!broker.dispatch(&key.message()));
    held.expect_silence(MOMENT);
    assert_eq!(cordon("DELETE").json()["cordons"].as_array().map(Vec::len), Some(0));
    broker.deliver(&key, &mut held);
    broker.wait_for("polls_closed", 4);
}

#[test]
fn a_shutdown_closes_polls_one_by_one() {
    let mut broker = Broker::start("--workers 2 --shutdown-time 3s");
    let key = Key::fresh();
    let (pending, missing) = (Key::fresh(), Key::fresh());
    let polls = broker.polls(&key, 40);
    let mut reader = broker.poll(&pending);
    let mut supervisor = broker.supervisor();
    let mut waiting = broker.supervisor();
    let message = pending.message();
    waiting.send(trigger::dispatch(&message));
    assert_eq!(reader.response().text(), message);
    assert!(!supervisor.ask(missing.dispatch()).did_warm_start());

    // Each on its own thread, so that the measured end does not wait for this thread.
    let ends: Vec<_> = polls
        .into_iter()
        .map(|mut poll| {
            thread::spawn(move || {
                poll.expect_closed();
                Instant::now()
            })
        })
        .collect();
    broker.signal(Signal::SIGTERM);
    broker.wait_until("shutting down", || broker.admin("/readyz").status == 503);
    // A claimed run is delivered; a new dispatch is cold.
    let mut refused = supervisor.ask(missing.dispatch());
    while !refused.says_close() {
        // The worker does not know of the shutdown yet.
        assert!(!refused.did_warm_start());
        refused = supervisor.ask(missing.dispatch());
    }
    assert!(!refused.did_warm_start());
    supervisor.expect_closed();
    drop(reader);
    assert!(waiting.response().did_warm_start());
    waiting.expect_closed();

    let ends: Vec<Instant> = ends.into_iter().map(|end| end.join().expect("closed")).collect();
    let spread = *ends.iter().max().expect("polls") - *ends.iter().min().expect("polls");
    assert!(spread > Duration::from_secs(1), "all within {spread:?}");
    assert_eq!(broker.ended().code(), Some(0));
    assert!(Client::try_connect(broker.runner).is_err());
}

#[test]
fn a_poll_during_a_shutdown_is_closed() {
    let mut broker = Broker::start("--workers 1 --shutdown-time 1s");
    let key = Key::fresh();
    // Connected before the listener closes.
    let mut late = broker.client();
    assert_eq!(late.ask(trigger::CONNECT).status, 200);
    broker.signal(Signal::SIGTERM);
    broker.wait_until("shutting down", || broker.admin("/readyz").status == 503);
    thread::sleep(MOMENT);
    let _ = late.try_send(key.poll());
    assert!(matches!(late.end(crate::support::PATIENCE), End::Closed | End::Reset));
    assert_eq!(broker.ended().code(), Some(0));
}

/// Connections that stay open do not delay the end beyond --shutdown-time.
#[test]
fn a_shutdown_ends_within_its_time() {
    let mut broker = Broker::start("--workers 1 --shutdown-time 300ms");
    let key = Key::fresh();
    let mut stay: Vec<Client> = vec![broker.client(), broker.poll(&key)];
    let mut half = broker.client();
    half.send(&key.poll()[..40]);
    stay.push(half);
    thread::sleep(MOMENT);
    let began = Instant::now();
    broker.signal(Signal::SIGTERM);
    stay.iter_mut().for_each(Client::expect_gone);
    assert_eq!(broker.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
