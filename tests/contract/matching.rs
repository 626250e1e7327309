//! Which runner gets which run.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::trigger::{self, Key};
use std::collections::BTreeSet;

const MODES: [&str; 3] = ["read", "ack", "write"];

#[test]
fn connect_returns_the_configured_times() {
    let broker = Broker::start("--workers 1 --connection-timeout 20s --keepalive 2m");
    let mut client = broker.client();
    for _ in 0..3 {
        let response = client.ask(trigger::CONNECT);
        assert_eq!(response.status, 200);
        assert_eq!(response.text(), r#"{"connectionTimeoutMs":20000,"keepaliveMs":120000}"#);
        assert_eq!(response.field("content-type"), Some("application/json"));
        assert_eq!(response.field("connection"), None);
    }
}

#[test]
fn a_run_arrives_byte_for_byte() {
    for mode in MODES {
        let broker = Broker::start(&format!("--workers 1 --confirm {mode}"));
        let key = Key::fresh();
        let message = key.message();
        let spaced = message.replace(',', " ,\r\n\t").replace(':', " : ");
        // The message is the text from brace to brace, without the white space around it.
        let bodies = [
            (trigger::body(&message), message.clone()),
            (format!("\r\n {{ \"dequeuedMessage\" :\t{spaced}\n }}\n"), spaced),
            (
                format!(r#"{{"a":[{{}},null],"dequeuedMessage":{message},"dequeuedMessages":{{"b":1e9}}}}"#),
                message.clone(),
            ),
            (format!(r#"{{"dequeued\u004dessage":{message}}}"#), message.clone()),
        ];
        for (body, expected) in bodies {
            let mut poll = broker.poll(&key);
            let mut supervisor = broker.supervisor();
            supervisor.send(trigger::post(&body));
            let run = poll.response();
            assert_eq!((run.status, run.text()), (200, expected.as_str()), "{mode}");
            assert_eq!(run.field("content-type"), Some("application/json"));
            assert_eq!(run.says_close(), mode == "read", "{mode}");
            drop(poll);
            assert!(supervisor.response().did_warm_start(), "{mode}: {body}");
        }
    }
}

#[test]
fn escapes_and_all_sizes_arrive_byte_for_byte() {
    let broker = Broker::start("--workers 1");
    let mut outputs = vec![
        r#"\" \\ \/ \b \f \n \r \t \u0000 \u001f \u007f \ud83d\ude00 \ud800 \udc00\ud800"#.to_owned(),
        "\u{7f} \u{80} \u{7ff} \u{800} \u{2028} \u{fffd} \u{ffff} \u{1f600} \u{10ffff}".to_owned(),
        r"\\".repeat(9_999),
    ];
    // Sizes around those of a segment, the read buffer and the pipeline limit.
    for size in [0, 1, 1_000, 4_096, 16_384, 65_483, 65_535, 65_536, 65_537, 131_072, 300_000, 1 << 20] {
        outputs.push("x".repeat(size));
    }
    let keys: Vec<Key> = outputs.iter().map(|_| Key::fresh()).collect();
    let mut polls: Vec<Client> = keys.iter().map(|_| broker.client()).collect();
    for (key, poll) in keys.iter().zip(&mut polls) {
        poll.send(key.poll());
    }
    broker.expect_polls(polls.len());
    for ((output, key), mut poll) in outputs.iter().zip(&keys).zip(polls) {
        let message = key.message_with(output);
        let mut supervisor = broker.supervisor();
        supervisor.send(trigger::dispatch(&message));
        let run = poll.response();
        assert!(run.body == message.as_bytes(), "{} bytes", message.len());
        drop(poll);
        assert!(supervisor.response().did_warm_start());
    }
}

#[test]
fn every_field_of_the_key_must_match() {
    let broker = Broker::start("--workers 1");
    let key = Key::new("deployment_abc");
    let mut poll = broker.poll(&key);
    let others = [
        Key::new("deployment_abd"),
        Key::new("deployment_abcd"),
        Key::new("deployment_ab"),
        Key::new("Deployment_abc"),
        key.clone().version("20260728.30"),
        key.clone().version("20260728.4"),
        key.clone().cpu("0.25"),
        key.clone().cpu("0.5000001"),
        key.clone().cpu("-0.5"),
        key.clone().memory("0.5"),
        key.clone().memory("0.25000000000000006"),
        key.clone().cpu("0.25").memory("0.5"),
    ];
    for other in &others {
        assert!(!broker.dispatch(&other.message()), "{other:?}");
    }
    // The other way round: their polls do not match its runs.
    let mut polls: Vec<Client> = others.iter().map(|other| broker.poll(other)).collect();
    broker.deliver(&key, &mut poll);
    assert!(!broker.dispatch(&key.message()));
    for (other, poll) in others.iter().zip(&mut polls) {
        broker.deliver(other, poll);
    }
    broker.wait_for("cold", others.len() as u64 + 1);
    broker.wait_for("warm", others.len() as u64 + 1);
}

#[test]
fn machine_sizes_compare_as_numbers() {
    let broker = Broker::start("--workers 1");
    let machines = [
        &["0.5", "0.50", "5e-1", "5E-1", "0.05e1", "50e-02", "0.5e0", "0.5e+0", "0.5000000000000000000001"][..],
        &["1", "1.0", "1e0", "10e-1", "0.1e1", "1.00000"],
        &["0.25", "25e-2", "2.5E-1"],
        &["1e+21", "1000000000000000000000", "1E21"],
        &["0", "0.0", "-0", "0e9", "1e-999"],
    ];
    let mut waiting = Vec::new();
    for spellings in machines {
        for (polled, dispatched) in spellings.iter().zip(spellings.iter().cycle().skip(1)) {
            let key = Key::fresh().cpu(polled).memory(dispatched);
            let mut poll = broker.client();
            poll.send(key.poll());
            waiting.push((key.cpu(dispatched).memory(polled), poll));
        }
    }
    broker.expect_polls(waiting.len());
    for (key, poll) in &mut waiting {
        broker.deliver(key, poll);
    }
}

#[test]
fn each_run_goes_to_one_runner() {
    let broker = Broker::start("--workers 1");
    let key = Key::fresh();
    let mut polls = broker.polls(&key, 20);
    let messages: Vec<String> = (0..25).map(|_| key.message()).collect();
    let mut supervisors: Vec<Client> = messages
        .iter()
        .map(|message| {
            let mut client = broker.supervisor();
            client.send(trigger::dispatch(message));
            client
        })
        .collect();
    let received: BTreeSet<String> = polls
        .iter_mut()
        .map(|poll| {
            let run = poll.response();
            poll.finish();
            poll.expect_closed();
            run.text().to_owned()
        })
        .collect();
    assert_eq!(received.len(), 20);
    for (message, supervisor) in messages.iter().zip(&mut supervisors) {
        assert_eq!(supervisor.response().did_warm_start(), received.contains(message));
    }
}

#[test]
fn newest_or_oldest_first() {
    for order in ["newest", "oldest"] {
        let broker = Broker::start(&format!("--workers 1 --match-order {order}"));
        let key = Key::fresh();
        let mut polls: Vec<Client> = (0..4).map(|_| broker.poll(&key)).collect();
        if order == "newest" {
            polls.reverse();
        }
        for poll in &mut polls {
            broker.deliver(&key, poll);
        }
        assert!(!broker.dispatch(&key.message()));
    }
}

#[test]
fn a_runner_that_left_gets_no_run() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let mut stays = broker.poll(&key);
    let leaves = broker.poll(&key);
    leaves.finish();
    broker.wait_for_polls(&key, 1);
    let resets = broker.poll(&key);
    resets.reset();
    broker.wait_for_polls(&key, 1);
    broker.deliver(&key, &mut stays);
    assert!(!broker.dispatch(&key.message()));
    broker.wait_for("polls_left", 2);
}

/// A client may poll on a new connection before the broker sees the end of the old one.
#[test]
fn one_runner_may_hold_two_polls() {
    let broker = Broker::start("--workers 1");
    let key = Key::fresh();
    let old = broker.poll(&key);
    let mut new = broker.poll(&key);
    drop(old);
    broker.wait_for_polls(&key, 1);
    broker.deliver(&key, &mut new);
}

#[test]
fn a_refused_poll_names_the_field() {
    let broker = Broker::start("--workers 1");
    let key = Key::new("deployment_a");
    let poll = key.poll();
    let without = |name: &str| -> String {
        poll.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
    };
    let with = |from: &str, to: &str| {
        assert!(poll.contains(from), "{from}");
        poll.replace(from, to)
    };
    let cases = [
        (without("x-trigger-deployment-id"), "x-trigger-deployment-id is missing"),
        (without("x-trigger-deployment-version"), "x-trigger-deployment-version is missing"),
        (without("x-trigger-machine-cpu"), "x-trigger-machine-cpu is missing"),
        (without("x-trigger-machine-memory"), "x-trigger-machine-memory is missing"),
        (with("cpu: 0.5", "cpu: half"), "x-trigger-machine-cpu must be a number, not `half`"),
        (with("cpu: 0.5", "cpu: NaN"), "x-trigger-machine-cpu must be a number, not `NaN`"),
        (with("cpu: 0.5", "cpu: .5"), "x-trigger-machine-cpu must be a number, not `.5`"),
        (with("cpu: 0.5", "cpu: +1"), "x-trigger-machine-cpu must be a number, not `+1`"),
        (with("cpu: 0.5", "cpu: 1e999"), "x-trigger-machine-cpu must be a number, not `1e999`"),
        (with("memory: 0.25", "memory: 1 GB"), "x-trigger-machine-memory must be a number, not `1 GB`"),
        (with("cpu: 0.5", "cpu:"), "x-trigger-machine-cpu is empty"),
        (with("deployment_a", " "), "x-trigger-deployment-id is empty"),
        (with("accept: */*", "X-Trigger-Machine-CPU: 0.5"), "x-trigger-machine-cpu occurs more than once"),
    ];
    for (request, error) in &cases {
        let mut client = broker.client();
        let response = client.ask(request);
        assert_eq!((response.status, response.error().as_str()), (400, *error));
        assert!(response.says_close());
        client.expect_closed();
    }
    let mut client = broker.client();
    let mut request = poll.replace("deployment_a", "?").into_bytes();
    let at = request.iter().position(|byte| *byte == b'?').expect("a mark");
    request[at] = 0xff;
    let response = client.ask(request);
    assert_eq!(response.error(), "x-trigger-deployment-id must be UTF-8");
    // Fields that are not part of the key are optional.
    let mut client = broker.client();
    broker.hold(&mut client, without("x-trigger-wor"));
    broker.deliver(&key, &mut client);
    broker.wait_for("rejected", cases.len() as u64 + 1);
}
