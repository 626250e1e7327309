//! Attacks that send false runs to runners.

use crate::support::trigger;
use crate::{Attack, Scene};

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "dispatch_from_the_runner_side",
        what: "a forged dispatch on the runner side, 200 times, whole, chunked, and after a /connect",
        flags: "--dispatch-listen 127.0.0.1:0",
        run: from_the_runner_side,
    },
    Attack {
        name: "dispatch_from_elsewhere",
        what: "a forged dispatch from an address that is not listed, 200 times",
        flags: "--dispatch-allow 127.0.0.1",
        run: from_elsewhere,
    },
    Attack {
        name: "dispatch_by_a_stranger_to_the_dispatch_side",
        what: "a forged dispatch to the dispatch side itself from an address that is not listed, 200 times",
        flags: "--dispatch-listen 127.0.0.1:0 --dispatch-allow 127.0.0.1,10.0.0.0/8",
        run: to_the_dispatch_side,
    },
];

const TIMES: usize = 200;

fn from_the_runner_side(scene: &Scene) -> String {
    let key = scene.fleet.a_key();
    for _ in 0..TIMES {
        let mut client = scene.attacker();
        let refusal = client.ask(key.dispatch());
        assert_eq!((refusal.status, refusal.says_close()), (404, true), "{refusal:?}");
    }
    let body = trigger::body(&key.message());
    let length = body.len();
    let chunked = format!(
        "POST /warm-start HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    );
    assert_eq!(scene.attacker().ask(chunked).status, 404);
    // After a /connect on the same connection it is refused too. (After a poll it would wait.)
    let mut client = scene.attacker();
    client.send([trigger::CONNECT.to_vec(), key.dispatch()].concat());
    assert_eq!((client.response().status, client.response().status), (200, 404));
    for target in ["/warm-start?x", "//warm-start", "/warm-start/", "/WARM-START", "http://broker/warm-start"]
    {
        let request = String::from_utf8(key.dispatch()).expect("text").replacen("/warm-start", target, 1);
        assert_eq!(scene.attacker().ask(request).status, 404, "{target}");
    }
    "404 each time; no runner got a forged run".to_owned()
}

fn refused_with_403(scene: &Scene) {
    let key = scene.fleet.a_key();
    for _ in 0..TIMES {
        let mut client = scene.attacker_of_dispatch();
        let refusal = client.ask(key.dispatch());
        assert_eq!((refusal.status, refusal.says_close()), (403, true), "{refusal:?}");
        assert!(refusal.error().contains("--dispatch-allow"), "{refusal:?}");
    }
    // The broker refuses it by its head, and neither reads nor keeps a body.
    let head = "POST /warm-start HTTP/1.1\r\nhost: a\r\ncontent-length: 16000000\r\n\r\n";
    assert_eq!(scene.attacker_of_dispatch().ask(head).status, 403);
    scene.broker.wait_for("dispatches_forbidden", TIMES as u64 + 1);
    scene
        .broker
        .wait_until("the line in the log", || scene.broker.log().contains("flag=\"--dispatch-allow\""));
}

fn from_elsewhere(scene: &Scene) -> String {
    refused_with_403(scene);
    "403 each time, before any body; counted, and one line in the log".to_owned()
}

fn to_the_dispatch_side(scene: &Scene) -> String {
    refused_with_403(scene);
    assert_eq!(scene.attacker().ask(scene.fleet.a_key().dispatch()).status, 404);
    "403 each time there, 404 on the runner side".to_owned()
}
