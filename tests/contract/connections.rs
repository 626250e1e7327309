//! A single connection: reuse, order, pipelining, fragments, half-close.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::trigger::{self, Key};
use crate::support::{MOMENT, PATIENCE};
use std::collections::BTreeSet;
use std::thread;

#[test]
fn a_supervisor_reuses_its_connection() {
    let broker = Broker::start("--workers 1");
    let key = Key::fresh();
    let mut supervisor = broker.supervisor();
    // Held one after the other, so that the newest gets the first run.
    let mut polls: Vec<Client> = (0..10).map(|_| broker.poll(&key)).collect();
    let accepted = broker.counter("accepted");
    for round in 0..50 {
        let message = key.message();
        supervisor.send(trigger::dispatch(&message));
        if let Some(mut poll) = polls.pop() {
            assert_eq!(poll.response().text(), message);
        }
        assert_eq!(supervisor.response().did_warm_start(), round < 10);
    }
    broker.wait_for("cold", 40);
    assert_eq!(broker.counter("accepted"), accepted);
}

#[test]
fn connection_close_is_honoured_and_announced() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let closing = |request: &[u8]| {
        let request = String::from_utf8(request.to_vec()).expect("ASCII");
        assert!(request.contains("connection: keep-alive"));
        // The broker must ignore a pipelined request after it.
        let pipelined = String::from_utf8(key.dispatch()).expect("ASCII");
        request.replace("connection: keep-alive", "Connection: foo, Close") + &pipelined
    };
    let mut poll = broker.poll(&key);
    let cold = Key::fresh().dispatch();
    for request in [trigger::CONNECT, &cold[..]] {
        let mut client = broker.client();
        let response = client.ask(closing(request));
        assert_eq!(response.status, 200);
        assert!(response.says_close(), "{response:?}");
        client.expect_closed();
    }
    let other = Key::fresh();
    let mut last = broker.client();
    broker.hold(&mut last, closing(other.poll().as_bytes()));
    assert!(broker.dispatch(&other.message()));
    assert_eq!(last.response().status, 200);
    last.expect_closed();
    // The ignored dispatches did not claim this poll.
    broker.deliver(&key, &mut poll);
}

#[test]
fn http_1_0_closes_without_keep_alive() {
    let broker = Broker::start("--workers 1");
    let mut client = broker.client();
    let response = client.ask("GET /connect HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, response.says_close()), (200, true));
    client.expect_closed();

    let mut client = broker.client();
    for _ in 0..3 {
        let response = client.ask("GET /connect HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!((response.status, response.field("connection")), (200, Some("keep-alive")));
    }
    let key = Key::fresh();
    let as_http_1_0 = |request: &str| request.replace(" HTTP/1.1", " HTTP/1.0");
    let dispatch = String::from_utf8(key.dispatch()).expect("ASCII");
    let response = client.ask(as_http_1_0(&dispatch));
    assert_eq!((response.did_warm_start(), response.field("connection")), (false, Some("keep-alive")));
    let mut poll = broker.client();
    broker.hold(&mut poll, as_http_1_0(&key.poll()).replace("connection: keep-alive\r\n", ""));
    broker.deliver(&key, &mut poll);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start("--workers 1");
    let cold = Key::fresh().dispatch();
    let options = b"OPTIONS /connect HTTP/1.1\r\nhost: broker\r\n\r\n";
    let kinds = [(trigger::CONNECT, 200), (&cold, 200), (&options[..], 204)];
    let order: Vec<usize> = (0..200).map(|index| (index * index + index / 7) % 3).collect();
    let requests: Vec<u8> = order.iter().flat_map(|kind| kinds[*kind].0.to_vec()).collect();
    for piece in [requests.len(), 4_000, 77] {
        let mut client = broker.client();
        requests.chunks(piece).for_each(|piece| client.send(piece));
        for kind in &order {
            let response = client.response();
            assert_eq!(response.status, kinds[*kind].1);
            assert_eq!(response.body.starts_with(b"{\"conn"), *kind == 0, "{response:?}");
        }
        client.expect_silence(MOMENT);
    }
}

/// Answers keep the order of the requests, and the poll has no answer yet.
#[test]
fn requests_pipelined_after_a_held_poll_wait() {
    let broker = Broker::start("--workers 1 --confirm write");
    let (first, second) = (Key::fresh(), Key::fresh());
    let mut client = broker.client();
    let requests = [trigger::CONNECT, first.poll().as_bytes(), trigger::CONNECT, &second.dispatch()].concat();
    broker.hold(&mut client, requests);
    assert_eq!(client.response().status, 200);
    client.send(second.poll());
    client.send(trigger::CONNECT);
    client.expect_silence(MOMENT);
    broker.deliver(&first, &mut client);
    assert_eq!(client.response().json()["keepaliveMs"], 300_000);
    assert!(!client.response().did_warm_start());
    broker.expect_polls(1);
    client.expect_silence(MOMENT);
    broker.deliver(&second, &mut client);
    assert_eq!(client.response().status, 200);
}

/// With --confirm read, the run is the last response on its connection.
#[test]
fn requests_pipelined_after_the_last_poll_are_ignored() {
    let broker = Broker::start("--workers 1 --confirm read");
    let (key, other) = (Key::fresh(), Key::fresh());
    let mut witness = broker.poll(&other);
    let mut client = broker.client();
    broker.hold(&mut client, [key.poll().as_bytes(), &other.dispatch()].concat());
    let message = key.message();
    let mut supervisor = broker.supervisor();
    supervisor.send(trigger::dispatch(&message));
    assert_eq!(client.response().text(), message);
    drop(client);
    assert!(supervisor.response().did_warm_start());
    broker.deliver(&other, &mut witness);
}

#[test]
fn a_flood_pipelined_after_a_held_poll_is_not_read() {
    const COUNT: usize = 15_000;
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let mut client = broker.poll(&key);
    let before = broker.counter("bytes_in");
    let mut writer = client.stream.try_clone().expect("cloned");
    let flood = thread::spawn(move || {
        use std::io::Write;
        writer.write_all(&trigger::CONNECT.repeat(COUNT)).expect("sent");
    });
    broker.wait_until("a full buffer", || broker.counter("bytes_in") > before + 60_000);
    thread::sleep(MOMENT);
    let kept = broker.counter("bytes_in") - before;
    assert!(kept <= 256 * 1024, "{kept} of {} bytes were read", COUNT * trigger::CONNECT.len());
    broker.deliver(&key, &mut client);
    for _ in 0..COUNT {
        assert_eq!(client.response().status, 200);
    }
    flood.join().expect("sent");
}

/// A client that closes its sending half still reads.
#[test]
fn a_half_closed_supervisor_gets_its_answers() {
    let broker = Broker::start("--workers 1 --confirm write");
    let (there, missing) = (Key::fresh(), Key::fresh());
    let mut poll = broker.poll(&there);
    let mut client = broker.client();
    client.send([there.dispatch(), missing.dispatch(), trigger::CONNECT.to_vec()].concat());
    client.finish();
    assert!(client.response().did_warm_start());
    assert!(!client.response().did_warm_start());
    assert_eq!(client.response().status, 200);
    client.expect_closed();
    assert_eq!(poll.response().status, 200);
}

/// A runner's FIN ends its poll, also if the FIN arrives before the broker handles the poll.
#[test]
fn a_pipelined_poll_of_a_closed_runner_is_not_held() {
    let broker = Broker::start("--workers 1 --confirm read");
    let (key, other) = (Key::fresh(), Key::fresh());
    let mut runner = broker.poll(&key);
    let mut client = broker.supervisor();
    client.send([&key.dispatch(), other.poll().as_bytes()].concat());
    client.finish();
    assert_eq!(runner.response().status, 200);
    thread::sleep(MOMENT);
    // Now the broker answers the dispatch and handles the poll after it.
    runner.finish();
    assert!(client.response().did_warm_start());
    client.expect_closed();
    assert!(!broker.dispatch(&other.message()));
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    let broker = Broker::start("--workers 1");
    for lines in ["\r\n", "\r\n\r\n\r\n\r\n"] {
        let request = [lines.as_bytes(), trigger::CONNECT].concat();
        let mut client = broker.client();
        assert_eq!(client.ask(&request).status, 200, "{lines:?}");
        assert_eq!(client.ask(&request).status, 200, "{lines:?}");
        for_each_cut(&broker, &request[..lines.len() + 4], |_, client| {
            client.send(&trigger::CONNECT[4..]);
            assert_eq!(client.response().status, 200, "{lines:?}");
        });
    }
}

/// Sends `request` in two parts, once for each place to cut it, each time on its own connection. The
/// broker reads the first part before the second is sent.
fn for_each_cut(broker: &Broker, request: &[u8], then: impl FnMut(usize, &mut Client)) {
    for_each_cut_of(broker, |_| request.to_vec(), request.len(), then);
}

fn for_each_cut_of(
    broker: &Broker,
    request: impl Fn(usize) -> Vec<u8>,
    len: usize,
    mut then: impl FnMut(usize, &mut Client),
) {
    let mut clients: Vec<Client> = (1..len).map(|_| broker.client()).collect();
    for (cut, client) in (1..).zip(&mut clients) {
        client.send(&request(cut)[..cut]);
    }
    // The broker serves connections in the order in which their bytes arrive.
    assert_eq!(broker.client().ask(trigger::CONNECT).status, 200);
    thread::sleep(MOMENT / 4);
    for (cut, client) in (1..).zip(&mut clients) {
        client.send(&request(cut)[cut..]);
    }
    for (cut, client) in (1..).zip(&mut clients) {
        then(cut, client);
    }
}

#[test]
fn a_poll_may_be_cut_anywhere() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let request = key.poll();
    let mut runs = BTreeSet::new();
    let mut supervisor = broker.supervisor();
    let mut messages = BTreeSet::new();
    let cuts = request.len() - 1;
    let mut first = true;
    for_each_cut(&broker, request.as_bytes(), |_, poll| {
        if std::mem::take(&mut first) {
            broker.expect_polls(cuts);
            for _ in 0..cuts {
                let message = key.message();
                assert!(supervisor.ask(trigger::dispatch(&message)).did_warm_start());
                messages.insert(message);
            }
        }
        runs.insert(poll.response().text().to_owned());
    });
    assert_eq!(runs.len(), cuts);
    assert_eq!(runs, messages);
}

/// The smallest valid message. Its length is the same for every number.
fn small_message(key: &Key, number: usize) -> String {
    let Key { deployment, version, cpu, memory } = key;
    format!(
        r#"{{"run":{{"friendlyId":"run_{number:06}","machine":{{"cpu":{cpu},"memory":{memory}}}}},"deployment":{{"friendlyId":"{deployment}"}},"backgroundWorker":{{"version":"{version}"}}}}"#
    )
}

/// Cuts a dispatch, framed by `frame`, at every place.
fn dispatches_may_be_cut_anywhere(frame: impl Fn(&str) -> Vec<u8>) {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let request = |number: usize| frame(&trigger::body(&small_message(&key, number)));
    let len = request(0).len();
    let mut polls = broker.polls(&key, len - 1);
    for_each_cut_of(&broker, request, len, |cut, supervisor| {
        assert!(supervisor.response().did_warm_start(), "cut after {cut} bytes");
    });
    let runs: BTreeSet<String> = polls.iter_mut().map(|poll| poll.response().text().to_owned()).collect();
    assert_eq!(runs, (1..len).map(|number| small_message(&key, number)).collect());
}

#[test]
fn a_dispatch_may_be_cut_anywhere() {
    dispatches_may_be_cut_anywhere(|body| {
        let length = body.len();
        format!("POST /warm-start HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    });
}

/// `body` in chunks, with extensions and trailer fields.
fn chunked(body: &str) -> String {
    let (first, rest) = body.split_at(1);
    let (second, third) = rest.split_at(rest.len() / 2);
    format!(
        "1\r\n{first}\r\n{:x};name=\"a \\\" value\";b\r\n{second}\r\n{:04X} ; c = d\r\n{third}\r\n\
         0;last\r\nDigest: a=b\r\nEmpty:\r\n\r\n",
        second.len(),
        third.len()
    )
}

#[test]
fn a_chunked_dispatch_may_be_cut_anywhere() {
    dispatches_may_be_cut_anywhere(|body| {
        let body = chunked(body);
        format!("POST /warm-start HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{body}")
            .into_bytes()
    });
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::fresh();
    let mut poll = broker.client();
    key.poll().as_bytes().chunks(1).for_each(|byte| poll.send(byte));
    broker.expect_polls(1);
    let mut supervisor = broker.supervisor();
    let body = chunked(&trigger::body(&key.message()));
    let request = format!("POST /warm-start HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    request.as_bytes().chunks(1).for_each(|byte| supervisor.send(byte));
    assert!(supervisor.response().did_warm_start());
    assert_eq!(poll.response().status, 200);
}

#[test]
fn expect_100_continue_is_answered() {
    let broker = Broker::start("--workers 1 --confirm write --max-body 100000");
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    let body = trigger::body(&key.message());
    let head = |length: usize| {
        format!(
            "POST /warm-start HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut client = broker.supervisor();
    let interim = client.ask(head(body.len()));
    assert_eq!((interim.status, interim.fields.len()), (100, 0));
    client.expect_silence(MOMENT);
    assert!(client.ask(&body).did_warm_start());
    assert_eq!(poll.response().status, 200);
    // On the same connection, with a chunked body.
    let chunks = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    assert_eq!(client.ask(chunks).status, 100);
    assert!(!client.ask(chunked(&body)).did_warm_start());
    // RFC 9110 section 10.1.1: no 100 for a client that does not wait for it.
    assert!(!client.ask(head(body.len()) + &body).did_warm_start());
    // The broker does not wait for the body if the answer does not depend on it.
    assert_eq!(client.ask(head(100_001)).status, 413);
    client.expect_closed();
    let mut client = broker.supervisor();
    assert_eq!(client.ask(head(5).replace("100-Continue", "200-ok")).status, 417);
    client.expect_closed();
}

#[test]
fn head_and_options_are_answered() {
    let broker = Broker::start("--workers 1");
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: broker\r\n\r\n");
    let mut client = broker.client();
    let full = client.ask(request("GET /connect"));
    client.send(request("HEAD /connect"));
    let head = client.response_to_head();
    assert_eq!((head.status, &head.fields, head.body.len()), (200, &full.fields, 0));
    for (target, allow) in [
        ("/connect", "GET, HEAD, OPTIONS"),
        ("/warm-start", "GET, POST, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
        ("http://broker", "GET, HEAD, POST, OPTIONS"),
    ] {
        let options = client.ask(request(&format!("OPTIONS {target}")));
        assert_eq!((options.status, options.field("allow")), (204, Some(allow)), "{target}");
        assert_eq!(options.field("content-length"), None);
    }
    // RFC 9110 section 9.3.2: no response to HEAD has a body.
    for (target, status, allow) in [("/warm-start", 405, Some("GET, POST, OPTIONS")), ("/nowhere", 404, None)]
    {
        let mut client = broker.client();
        client.send(request(&format!("HEAD {target}")));
        let head = client.response_to_head();
        assert_eq!((head.status, head.field("allow")), (status, allow));
        client.expect_closed();
    }
}

#[test]
fn absolute_form_targets_are_accepted() {
    let broker = Broker::start("--workers 1");
    let key = Key::fresh();
    let absolute = |request: &str| request.replace(" /warm-start", " http://BROKER/warm-start?a=b");
    let mut poll = broker.client();
    broker.hold(&mut poll, absolute(&key.poll()));
    let message = key.message();
    let mut supervisor = broker.supervisor();
    let dispatch = String::from_utf8(trigger::dispatch(&message)).expect("ASCII");
    supervisor.send(absolute(&dispatch));
    assert_eq!(poll.response().text(), message);
    poll.finish();
    assert!(supervisor.response().did_warm_start());
    let mut client = broker.client();
    let response = client.ask("GET http://elsewhere/connect HTTP/1.1\r\nHost: broker\r\n\r\n");
    assert_eq!((response.status, response.says_close()), (400, true));
    client.expect_closed();
}

/// With --dispatch-listen, the runner side takes no dispatches.
#[test]
fn each_side_has_its_own_listener() {
    let broker = Broker::start("--workers 2 --dispatch-listen 127.0.0.1:0");
    assert_ne!(broker.runner, broker.dispatch);
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    let mut forger = broker.client();
    let refusal = forger.ask(key.dispatch());
    let nowhere = broker.client().ask("GET /nowhere HTTP/1.1\r\nHost: broker\r\n\r\n");
    assert_eq!((refusal.status, refusal.error()), (404, nowhere.error()));
    forger.expect_closed();
    for (line, status, allow) in [
        ("GET /warm-start", 405, Some("POST, OPTIONS")),
        ("OPTIONS /warm-start", 204, Some("POST, OPTIONS")),
        ("GET /connect", 404, None),
    ] {
        let response = broker.supervisor().ask(format!("{line} HTTP/1.1\r\nHost: broker\r\n\r\n"));
        assert_eq!((response.status, response.field("allow")), (status, allow), "{line}");
    }
    let options = broker.client().ask("OPTIONS /warm-start HTTP/1.1\r\nHost: broker\r\n\r\n");
    assert_eq!(options.field("allow"), Some("GET, OPTIONS"));
    assert_eq!(broker.client().ask(trigger::CONNECT).status, 200);
    broker.deliver(&key, &mut poll);
    assert!(!broker.dispatch(&key.message()));
}

#[test]
fn silent_connections_are_closed_after_their_timeout() {
    let broker = Broker::start(
        "--workers 1 --request-timeout 400ms --idle-timeout 4100ms --preconnect-timeout 4100ms",
    );
    let silent = broker.client();
    let mut served = broker.client();
    assert_eq!(served.ask(trigger::CONNECT).status, 200);
    let dispatch = Key::fresh().dispatch();
    // An incomplete request may be a poll: the broker does not answer it.
    let mut halves: Vec<Client> = [1, 20, dispatch.len() - 1]
        .map(|len| {
            let mut client = broker.client();
            client.send(&dispatch[..len]);
            client
        })
        .into();
    let mut second = broker.client();
    second.send([trigger::CONNECT, b"GET"].concat());
    assert_eq!(second.response().status, 200);
    halves.push(second);
    halves.iter_mut().for_each(Client::expect_closed);
    assert_eq!(served.ask(trigger::CONNECT).status, 200);
    for mut client in [silent, served] {
        assert_eq!(client.end(PATIENCE), crate::support::client::End::Closed);
    }
    broker.wait_for("requests_timed_out", 4);
}
