//! The body of a dispatch: JSON with the four fields of the key, or a refusal that names the fault.

use crate::support::broker::Broker;
use crate::support::trigger::{self, Key};
use std::time::{Duration, Instant};

const NOT_JSON: &str = "the body is not JSON at byte ";

/// A dispatch's body with one text in place of another.
fn changed(from: &str, to: &str) -> String {
    let body = trigger::body(&Key::new("deployment_a").message());
    assert!(body.contains(from), "{from}");
    body.replacen(from, to, 1)
}

#[test]
fn a_refusal_names_the_fault() {
    let broker = Broker::start("--workers 1");
    let whole = changed("", "");
    let machine = r#""machine":{"name":"small-1x","cpu":0.5,"memory":0.25,"centsPerMs":0.0000338}"#;
    let deployment =
        r#""deployment":{"id":"cm0deployment","friendlyId":"deployment_a","imagePlatform":"linux/amd64"}"#;
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "the body is not JSON: it ends too soon"),
        (" \r\n".into(), "the body is not JSON: it ends too soon"),
        ("null".into(), "the body must be an object"),
        ("[]".into(), "the body must be an object"),
        (r#""text""#.into(), "the body must be an object"),
        ("{}".into(), "dequeuedMessage is missing"),
        (r#"{"message":{}}"#.into(), "dequeuedMessage is missing"),
        (r#"{"dequeuedMessage":null}"#.into(), "dequeuedMessage must be an object"),
        (r#"{"dequeuedMessage":[{}]}"#.into(), "dequeuedMessage must be an object"),
        (r#"{"dequeuedMessage":"{}"}"#.into(), "dequeuedMessage must be an object"),
        (r#"{"dequeuedMessage":{}}"#.into(), "dequeuedMessage.deployment is missing"),
        (changed(deployment, r#""deployment":{}"#), "dequeuedMessage.deployment.friendlyId is missing"),
        (changed(deployment, r#""deployment":null"#), "dequeuedMessage.deployment must be an object"),
        (changed(deployment, r#""deployment":7"#), "dequeuedMessage.deployment must be an object"),
        (changed(r#""deployment_a""#, "null"), "dequeuedMessage.deployment.friendlyId must be a string"),
        (changed(r#""deployment_a""#, "[]"), "dequeuedMessage.deployment.friendlyId must be a string"),
        (
            changed("deployment_a", r"\ud800"),
            "dequeuedMessage.deployment.friendlyId contains half of a surrogate pair",
        ),
        (changed("backgroundWorker", "backgroundworker"), "dequeuedMessage.backgroundWorker is missing"),
        (
            changed(r#""20260728.3""#, "20260728.3"),
            "dequeuedMessage.backgroundWorker.version must be a string",
        ),
        (
            changed(r#""version":"20260728.3""#, r#""v":1"#),
            "dequeuedMessage.backgroundWorker.version is missing",
        ),
        (changed(r#""run":{"#, r#""Run":{"#), "dequeuedMessage.run is missing"),
        (changed(machine, r#""machines":[]"#), "dequeuedMessage.run.machine is missing"),
        (changed(machine, r#""machine":null"#), "dequeuedMessage.run.machine must be an object"),
        (changed(machine, r#""machine":{}"#), "dequeuedMessage.run.machine.cpu is missing"),
        (changed(r#""cpu":0.5,"#, ""), "dequeuedMessage.run.machine.cpu is missing"),
        (changed(r#""cpu":0.5"#, r#""cpu":"0.5""#), "dequeuedMessage.run.machine.cpu must be a number"),
        (changed(r#""cpu":0.5"#, r#""cpu":null"#), "dequeuedMessage.run.machine.cpu must be a number"),
        (changed(r#""cpu":0.5"#, r#""cpu":1e999"#), "dequeuedMessage.run.machine.cpu is out of range"),
        (
            changed(r#""memory":0.25"#, r#""memory":true"#),
            "dequeuedMessage.run.machine.memory must be a number",
        ),
        (changed(r#""memory":0.25,"#, ""), "dequeuedMessage.run.machine.memory is missing"),
        // Of two members with one name, some parsers take the first and some the last.
        (changed(r#""cpu":0.5"#, r#""cpu":0.5,"cpu":0.5"#), "dequeuedMessage.run.machine.cpu occurs twice"),
        (
            changed(r#""cpu":0.5"#, r#""cpu":0.5,"\u0063pu":1"#),
            "dequeuedMessage.run.machine.cpu occurs twice",
        ),
        (changed(machine, &format!("{machine},{machine}")), "dequeuedMessage.run.machine occurs twice"),
        (
            changed(deployment, &format!("{deployment},{deployment}")),
            "dequeuedMessage.deployment occurs twice",
        ),
        (
            changed(r#"{"dequeuedMessage":"#, r#"{"dequeuedMessage":{},"dequeuedMessage":"#),
            "dequeuedMessage occurs twice",
        ),
        (whole[..whole.len() - 1].to_owned(), "the body is not JSON: it ends too soon"),
        (format!("{whole},"), NOT_JSON),
        (format!("{whole}{whole}"), NOT_JSON),
        (format!("\u{feff}{whole}"), NOT_JSON),
        (changed("false", "False"), NOT_JSON),
    ];
    for (body, expected) in &cases {
        let mut client = broker.supervisor();
        let refusal = client.ask(trigger::post(body));
        // The position of the fault depends on the run's number.
        let error = refusal.error();
        let error = if error.starts_with(NOT_JSON) { NOT_JSON } else { &error };
        assert_eq!((refusal.status, error), (400, *expected), "{body}");
        assert!(refusal.says_close());
        client.expect_closed();
    }
    broker.wait_for("rejected", cases.len() as u64);
    assert_eq!(broker.counter("cold"), 0);
}

/// A body cut at many places, and with invalid bytes at many places.
#[test]
fn truncated_and_damaged_bodies_are_refused() {
    let broker = Broker::start("--workers 1");
    let whole = trigger::body(&Key::fresh().message());
    for len in (0..whole.len()).step_by(13) {
        let refusal = broker.supervisor().ask(trigger::post(&whole[..len]));
        assert_eq!((refusal.status, refusal.error()), (400, "the body is not JSON: it ends too soon".into()));
    }
    for at in (1..whole.len() - 1).step_by(17) {
        for damage in [&b"\0"[..], b"\xff", b"\x1f", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80"] {
            let mut body = whole.clone().into_bytes();
            body.splice(at..at, damage.iter().copied());
            let refusal = broker.supervisor().ask(trigger::post(&body));
            assert_eq!(refusal.status, 400, "{damage:x?} at {at}");
            let error = refusal.error();
            let not_utf8 = damage[0] >= 0x80;
            assert_eq!(error.starts_with("the body is not UTF-8 at byte "), not_utf8, "{error}");
        }
    }
}

#[test]
fn other_members_and_spellings_are_ignored() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::new("deployment_a");
    let bodies = [
        changed(r#""imagePlatform""#, r#""friendlyid":1,"imagePlatform""#),
        changed(r#""friendlyId":"run_"#, r#""friendlyId":[],"former":"run_"#),
        changed(r#""isTest":false"#, r#""isTest":false,"isTest":true,"big":1e999,"half":"\udc00""#),
        changed(r#""isTest":false"#, r#""machines":{"cpu":7},"cpu":"x","version":[[]],"deployment":null"#),
        changed(r#""deployment_a""#, r#""\u0064eployment\u005Fa""#),
        changed(r#""cpu":0.5"#, "\"cpu\" : \t\r\n 5e-1 "),
        changed(r#""friendlyId":"deployment_a""#, r#""fri\u0065ndlyId":"deployment_a""#),
    ];
    for body in bodies {
        let mut poll = broker.poll(&key);
        assert!(broker.supervisor().ask(trigger::post(&body)).did_warm_start(), "{body}");
        let message = body.strip_prefix(r#"{"dequeuedMessage":"#).expect("the start");
        assert_eq!(poll.response().text(), &message[..message.len() - 1]);
    }
}

#[test]
fn nesting_of_100_000_levels_is_read() {
    const DEPTH: usize = 100_000;
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::new("deployment_a");
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let deep = format!("{}0{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let inside = changed(r#""isTest":false"#, &format!(r#""deep":{deep}"#));
        let mut poll = broker.poll(&key);
        assert!(broker.supervisor().ask(trigger::post(&inside)).did_warm_start());
        let run = poll.response();
        assert!(inside.as_bytes().windows(run.body.len()).any(|part| part == run.body));
        // Cut off in the middle, and as the value of the wrong member.
        let open_ended = changed(r#""isTest":false"#, &format!(r#""deep":{}"#, open.repeat(DEPTH)));
        let cut = &open_ended[..open_ended.find(open).expect("there") + DEPTH];
        for body in [cut, &open.repeat(DEPTH), &changed(r#""cpu":0.5"#, &format!(r#""cpu":{deep}"#)), &deep] {
            assert_eq!(broker.supervisor().ask(trigger::post(body)).status, 400);
        }
    }
}

/// The time grows linearly with the size of the body.
#[test]
fn bodies_of_ten_megabytes_take_linear_time() {
    let broker = Broker::start("--workers 1 --confirm write");
    let key = Key::new("deployment_a");
    let fill = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    let mut poll = broker.poll(&key);
    let message = key.message_with(&fill("0123456789abcdef", 10_000_000));
    let mut supervisor = broker.supervisor();
    supervisor.send(trigger::dispatch(&message));
    assert!(poll.response().body == message.as_bytes());
    assert!(supervisor.response().did_warm_start());
    for text in ["\\\"", "\\u0041", "\u{e9}", "\\\\"] {
        let time = |bytes: usize| {
            let request = trigger::dispatch(&key.message_with(&fill(text, bytes)));
            (0..3)
                .map(|_| {
                    let began = Instant::now();
                    assert!(!broker.supervisor().ask(&request).did_warm_start());
                    began.elapsed()
                })
                .min()
                .expect("three")
        };
        let (short, long) = (time(1_000_000), time(8_000_000));
        assert!(long < short * 24 + Duration::from_millis(200), "{text}: {short:?} and {long:?}");
    }
}
