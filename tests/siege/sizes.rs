//! Oversize: heads, bodies, chunks, pipelined requests.

use crate::support::client::{Client, End};
use crate::support::trigger::{self, Key};
use crate::support::{MOMENT, PATIENCE};
use crate::{Attack, Scene};
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "oversize_everything",
        what: "a request line, fields, a body, chunks, extensions, trailers and nesting, each far too large",
        flags: "",
        run: oversize,
    },
    Attack {
        name: "sent_ahead",
        what: "64 polls, each with 4 MiB of pipelined requests",
        flags: "",
        run: sent_ahead,
    },
    Attack {
        name: "bodies_that_never_end",
        what: "40 dispatches of almost 16 MiB without their last byte",
        flags: "",
        run: endless_bodies,
    },
    Attack {
        name: "heads_that_never_end",
        what: "2,000 heads of almost 16 KiB without their end, some of them after a /connect",
        flags: "--max-body 256KiB --max-buffered 4MiB",
        run: endless_heads,
    },
];

const MIB: usize = 1 << 20;

fn oversize(scene: &Scene) -> String {
    let rss = scene.broker.rss();
    let big = "x".repeat(MIB);
    let chunked = "POST /warm-start HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let of_length =
        |length: &str| format!("POST /warm-start HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    let deep = format!(r#"{{"dequeuedMessage":{}"#, "[".repeat(8 * MIB));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a line", format!("GET /{big} HTTP/1.1\r\n\r\n").into(), &[414]),
        ("a method", format!("{big} / HTTP/1.1\r\n\r\n").into(), &[400, 414, 431, 501]),
        ("a field", format!("GET /connect HTTP/1.1\r\nhost: a\r\nx: {big}\r\n\r\n").into(), &[431]),
        ("a field's name", format!("GET /connect HTTP/1.1\r\nhost: a\r\n{big}: x\r\n\r\n").into(), &[431]),
        (
            "fields",
            format!("GET /connect HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(2_000)).into(),
            &[431],
        ),
        ("a length", of_length("1099511627776").into(), &[413]),
        ("a length beyond numbers", of_length(&"9".repeat(40)).into(), &[400, 413]),
        ("a chunk", format!("{chunked}ffffffffffffffff\r\n").into(), &[413]),
        ("an extension", format!("{chunked}1;{big}").into(), &[413]),
        ("trailers", format!("{chunked}0\r\n{}", "a: b\r\n".repeat(10_000)).into(), &[431]),
        ("chunks", format!("{chunked}{}", format!("100000\r\n{big}\r\n").repeat(17)).into(), &[413]),
        ("depth", trigger::post(&deep), &[400]),
    ];
    for (what, request, statuses) in &cases {
        let mut client = scene.attacker();
        // The broker may refuse it and reset the connection before all of it is sent.
        let _ = client.try_send(request);
        match client.read(PATIENCE) {
            Ok(refusal) => assert!(statuses.contains(&refusal.status), "{what}: {refusal:?}"),
            Err(end) => assert_eq!(end, End::Reset, "{what}"),
        }
        client.reset();
    }
    // A long deployment name and a long number in a head that fits.
    let key = Key::new(&"d".repeat(8_000)).cpu(&"1".repeat(300));
    let mut client = scene.attacker();
    client.send(key.poll());
    let end = client.read(MOMENT);
    assert!(end == Err(End::Silent) || end.as_ref().is_ok_and(|refusal| refusal.status == 400), "{end:?}");
    client.reset();
    let grown = scene.broker.rss().saturating_sub(rss);
    assert!(grown < 64 * MIB, "{grown} bytes of memory more");
    "refused at the first byte beyond the limit: 400, 413, 414 or 431".to_owned()
}

/// Sends as much as the kernel accepts within a time.
fn push(client: &Client, bytes: &[u8], during: Duration) -> usize {
    client.stream.set_nonblocking(true).expect("set");
    let until = Instant::now() + during;
    let mut sent = 0;
    while sent < bytes.len() && Instant::now() < until {
        match (&client.stream).write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    client.stream.set_nonblocking(false).expect("set");
    sent
}

fn sent_ahead(scene: &Scene) -> String {
    let rss = scene.broker.rss();
    let requests = trigger::CONNECT.repeat(4 * MIB / trigger::CONNECT.len());
    let mut crowd: Vec<Client> = Vec::new();
    for _ in 0..64 {
        let mut client = scene.attacker();
        client.send(Key::fresh().poll());
        push(&client, &requests, Duration::from_millis(20));
        crowd.push(client);
    }
    thread::sleep(MOMENT);
    // The broker reads ahead at most 64 KiB plus what the engine had read by then: one read with epoll,
    // a turn's buffers with io_uring.
    let each = if scene.broker.status()["engine"] == "epoll" { 3 * 64 * 1024 } else { 2 * MIB };
    let kept = scene.broker.counter("buffered_bytes");
    assert!(kept as usize <= 64 * each, "{kept} bytes are kept");
    let grown = scene.broker.rss().saturating_sub(rss);
    assert!(grown < 48 * MIB, "{grown} bytes of memory more");
    crowd.into_iter().for_each(Client::reset);
    "the broker stops reading at 64 KiB each; the rest stays with the sender".to_owned()
}

fn endless_bodies(scene: &Scene) -> String {
    const LENGTH: usize = 16 * MIB - 1;
    let rss = scene.broker.rss();
    let body = vec![b' '; LENGTH - 1];
    let head = format!("POST /warm-start HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
    let refused = |client: &mut Client, within| match client.read(within) {
        Ok(refusal) => {
            assert_eq!(refusal.status, 503, "{refusal:?}");
            assert!(refusal.error().contains("--max-buffered"), "{refusal:?}");
            true
        }
        Err(end) => end == End::Reset,
    };
    let mut crowd: Vec<(Client, bool)> = (0..40)
        .map(|_| {
            let mut client = scene.attacker();
            let _ = client.try_send(&head);
            let _ = client.try_send(&body);
            let answered = refused(&mut client, Duration::from_millis(10));
            (client, answered)
        })
        .collect();
    scene.broker.wait_until("the last are refused", || scene.broker.counter("refused_bytes") >= 32);
    let kept = scene.broker.counter("buffered_bytes") as usize;
    let grown = scene.broker.rss().saturating_sub(rss);
    assert!((64 * MIB..=128 * MIB).contains(&kept), "{kept} bytes are in flight");
    assert!(grown < 192 * MIB, "{grown} bytes of memory more");
    scene.fleet.wait_for_rounds(2);
    // On a busy machine the refusal arrives later.
    for (client, answered) in crowd.iter_mut().filter(|(_, answered)| !answered) {
        *answered = refused(client, Duration::from_millis(10));
    }
    assert!(crowd.iter().filter(|(_, refused)| *refused).count() >= 25, "most are refused with 503");
    crowd.into_iter().for_each(|(client, _)| client.reset());
    scene
        .broker
        .wait_until("the memory is free again", || scene.broker.counter("buffered_bytes") < MIB as u64);
    "at most 128 MiB in all are kept (96 MiB of incomplete ones), the others get 503; complete dispatches are served"
        .to_owned()
}

fn endless_heads(scene: &Scene) -> String {
    let head = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(15 << 10));
    let connect = String::from_utf8(trigger::CONNECT.to_vec()).expect("text");
    let (poll, post) = (head("GET /warm-start"), head("POST /warm-start"));
    let after_connect = format!("{connect}{}", head("GET /connect"));
    let mut crowd = Vec::new();
    let (mut closed, mut answered) = (0, 0);
    for index in 0..2_000 {
        let mut client = scene.attacker();
        let _ = client.try_send([&poll, &post, &after_connect][index % 3]);
        crowd.push(client);
    }
    // The broker refuses all but those that fit and the last ones.
    scene.broker.wait_until("most are refused", || scene.broker.counter("refused_bytes") >= 1_200);
    thread::sleep(MOMENT);
    // The broker drops a pipelined head when it answers the request before it.
    scene.broker.wait_until("the kept bytes are within the limit", || {
        scene.broker.counter("buffered_bytes") <= 4 * MIB as u64
    });
    for (index, client) in crowd.iter_mut().enumerate() {
        match client.read(Duration::from_millis(1)) {
            Ok(refusal) if refusal.status == 503 => {
                assert_eq!(index % 3, 1, "an incomplete poll is answered: {refusal:?}");
                answered += 1;
            }
            Ok(answer) => assert_eq!((index % 3, answer.status), (2, 200)),
            Err(End::Silent) => {}
            Err(_) => closed += 1,
        }
    }
    assert!(answered > 100 && closed > 100, "{answered} answered 503, {closed} closed");
    crowd.into_iter().for_each(Client::reset);
    "at most 4 MiB are kept; an incomplete dispatch gets 503, a possible poll is closed".to_owned()
}
