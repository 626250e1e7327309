//! Examples of bodies that are read or refused, and bodies that would be expensive for a naive reader.

mod boundaries;
mod naive;
mod oracle;

use super::*;
use crate::broker::http::Rejection;
use std::fmt::Debug;

/// A body of realistic shape and size, with invented ids.
pub(super) const REALISTIC: &str = r#"{"dequeuedMessage":{"version":"1","snapshot":{"id":"cmeqg7v1x0a2b01mt5h4k9z3d","friendlyId":"snapshot_f8kq3v7m2x9c4w1p","executionStatus":"PENDING_EXECUTING","description":"Run was QUEUED, and now is PENDING_EXECUTING","createdAt":"2026-07-14T09:31:22.418Z"},"dequeuedAt":"2026-07-14T09:31:22.431Z","workerQueueLength":3,"image":"registry.internal/trigger/proj_zkqmwlxbtr:20260714.3.prod@sha256:4f1c2a9d8e7b60f5a3c1d9e2b8f7061524c3d4e5f60718293a4b5c6d7e8f9012","checkpoint":null,"completedWaitpoints":[],"backgroundWorker":{"id":"cmeqf0k2v000101pb7d3e8w5n","friendlyId":"worker_3hx8n5c1v7k2m9q4","version":"20260714.3","runtime":"node-22"},"deployment":{"id":"cmeqf0m9c000301pbb1r7t2xa","friendlyId":"deployment_q7w2e9r4t1y6u3i8","imagePlatform":"linux/amd64"},"run":{"id":"cmeqg7tzw0a1x01mt2v9n6k4s","friendlyId":"run_m4k8x2c7v1b9n5z3","isTest":false,"isReplay":false,"machine":{"name":"small-1x","cpu":0.5,"memory":0.5,"centsPerMs":0.0000338},"attemptNumber":1,"masterQueue":"main","traceContext":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"dd=s:1;p:00f067aa0ba902b7;t.dm:-0,es=s:0.5","external":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},"annotations":{"triggerSource":"sdk","triggerAction":"trigger","rootTriggerSource":"sdk","idempotencyKey":"order-2026-07-14-000418"}},"environment":{"id":"cmeqe91aa000001pb4c2s8h6j","type":"PRODUCTION"},"organization":{"id":"cmeqe8zzz000201pb9x4v1b7n","hasPrivateLink":false},"project":{"id":"cmeqe90bc000101pb0m5k3w2q"},"placementTags":[]}}"#;

/// A body with these values for the fields of the key.
pub(super) fn body(deployment: &str, version: &str, cpu: &str, memory: &str) -> String {
    format!(
        r#"{{"dequeuedMessage":{{"deployment":{{"friendlyId":{deployment}}},"backgroundWorker":{{"version":{version}}},"run":{{"machine":{{"cpu":{cpu},"memory":{memory}}}}}}}}}"#
    )
}

pub(super) fn minimal() -> String {
    body(r#""d""#, r#""v""#, "1", "2")
}

pub(super) fn parsed(body: &str) -> DispatchRequest<'_> {
    parse_dispatch(body.as_bytes()).unwrap_or_else(|error| panic!("{error} in {body:.2000}"))
}

fn error(body: impl AsRef<[u8]> + Debug) -> DispatchError {
    match parse_dispatch(body.as_ref()) {
        Ok(_) => panic!("accepted: {body:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_realistic_dispatch() {
    let dispatch = parsed(REALISTIC);
    let inside = &REALISTIC[r#"{"dequeuedMessage":"#.len()..REALISTIC.len() - 1];
    assert_eq!(dispatch.message, inside.as_bytes());
    assert!(matches!(dispatch.deployment, Cow::Borrowed("deployment_q7w2e9r4t1y6u3i8")));
    assert!(matches!(dispatch.version, Cow::Borrowed("20260714.3")));
    assert_eq!(dispatch.run_id.as_deref(), Some("run_m4k8x2c7v1b9n5z3"));
    assert_eq!(dispatch.cpu, Number::parse("0.5").unwrap());
    assert_eq!(dispatch.memory, Number::parse("0.5").unwrap());
    assert_eq!(dispatch.key().deployment, "deployment_q7w2e9r4t1y6u3i8");
}

#[test]
fn the_message_is_forwarded_byte_for_byte() {
    let message = "{ \"run\" : {\"machine\":{\"memory\":5e-1,\n\t\"cpu\":0.50}} ,\"tomorrow\":[1e999,\"\\ud800\", \"é\"],\r\n\"deployment\":{\"friendlyId\":\"\\u0064\"},\"backgroundWorker\":{\"version\":\"\"} }";
    let body = format!(" {{\"a\":[{{}}, []] , \"dequeuedMessage\"\n:\t{message} , \"z\":null}} \n");
    let dispatch = parsed(&body);
    assert_eq!(dispatch.message, message.as_bytes());
    assert_eq!(dispatch.deployment, "d");
    assert_eq!(dispatch.version, "");
    assert_eq!(dispatch.run_id, None);
    assert_eq!(dispatch.cpu, dispatch.memory);
}

#[test]
fn an_error_names_what_was_expected() {
    for (value, expected) in [
        ("fals", "expected false"),
        ("nul", "expected null"),
        (r#""\x""#, "expected one of"),
        (r#""\u00g0""#, "expected four hex digits"),
        ("\"\u{1}\"", "expected no control character"),
    ] {
        let text = error(format!(r#"{{"a":{value}}}"#)).to_string();
        assert!(text.starts_with("the body is not JSON at byte ") && text.contains(expected), "{text}");
    }
    let twice = minimal().replace(r#""run":{"#, r#""backgroundWorker":{},"run":{"friendlyId":1,"#);
    assert_eq!(error(&twice).to_string(), "dequeuedMessage.backgroundWorker occurs twice");
    let twice = minimal().replace(r#""run":{"#, r#""run":{"friendlyId":1,"friendlyId":2,"#);
    assert_eq!(error(&twice).to_string(), "dequeuedMessage.run.friendlyId occurs twice");
    assert_eq!(error(&b"{\"\xff\"}"[..]).to_string(), "the body is not UTF-8 at byte 2");
}

#[test]
fn an_error_names_the_field() {
    let d = r#""d""#;
    let cases: Vec<(String, &str)> = vec![
        ("[]".into(), "the body must be an object"),
        ("null".into(), "the body must be an object"),
        ("{}".into(), "dequeuedMessage is missing"),
        (r#"{"dequeuedMessage":[]}"#.into(), "dequeuedMessage must be an object"),
        (r#"{"dequeuedMessage":{}}"#.into(), "dequeuedMessage.deployment is missing"),
        (r#"{"dequeuedMessage":{"deployment":null}}"#.into(), "dequeuedMessage.deployment must be an object"),
        (
            r#"{"dequeuedMessage":{"deployment":{}}}"#.into(),
            "dequeuedMessage.deployment.friendlyId is missing",
        ),
        (body("1", d, "1", "1"), "dequeuedMessage.deployment.friendlyId must be a string"),
        (body("null", d, "1", "1"), "dequeuedMessage.deployment.friendlyId must be a string"),
        (body(d, "[]", "1", "1"), "dequeuedMessage.backgroundWorker.version must be a string"),
        (body(d, d, d, "1"), "dequeuedMessage.run.machine.cpu must be a number"),
        (body(d, d, "true", "1"), "dequeuedMessage.run.machine.cpu must be a number"),
        (body(d, d, "1", "{}"), "dequeuedMessage.run.machine.memory must be a number"),
        (body(d, d, "1e999", "1"), "dequeuedMessage.run.machine.cpu is out of range"),
        (
            body(r#""\ud800""#, d, "1", "1"),
            "dequeuedMessage.deployment.friendlyId contains half of a surrogate pair",
        ),
        (
            body(d, r#""\udc00\ud800""#, "1", "1"),
            "dequeuedMessage.backgroundWorker.version contains half of a surrogate pair",
        ),
        (
            body(d, r#""\ud800\u0061""#, "1", "1"),
            "dequeuedMessage.backgroundWorker.version contains half of a surrogate pair",
        ),
        (
            body(d, r#""\ud800\ue000""#, "1", "1"),
            "dequeuedMessage.backgroundWorker.version contains half of a surrogate pair",
        ),
        (minimal().replace("cpu", "gpu"), "dequeuedMessage.run.machine.cpu is missing"),
        (minimal().replace("machine", "m"), "dequeuedMessage.run.machine is missing"),
        (minimal().replace("run", "m"), "dequeuedMessage.run is missing"),
        (minimal().replace("version", "m"), "dequeuedMessage.backgroundWorker.version is missing"),
        ("".into(), "the body is not JSON: it ends too soon"),
        ("{".into(), "the body is not JSON: it ends too soon"),
        (r#"{"a""#.into(), "the body is not JSON: it ends too soon"),
        (r#"{"a":tru"#.into(), "the body is not JSON: it ends too soon"),
        (r#"{"a":trux}"#.into(), "the body is not JSON at byte 8: expected true"),
        (r#"{"a":01}"#.into(), "the body is not JSON at byte 6: expected `,` or `}`"),
        (r#"{"a":1.}"#.into(), "the body is not JSON at byte 7: expected a digit"),
        (r#"{"a":1 "b":2}"#.into(), "the body is not JSON at byte 7: expected `,` or `}`"),
        (r#"{"a":[1}"#.into(), "the body is not JSON at byte 7: expected `,` or `]`"),
        (r#"{"a" 1}"#.into(), "the body is not JSON at byte 5: expected `:`"),
        (r#"{a:1}"#.into(), "the body is not JSON at byte 1: expected a name in quotes"),
        (r#"{"a":1,}"#.into(), "the body is not JSON at byte 7: expected a name in quotes"),
        (r#"{"a":[1,]}"#.into(), "the body is not JSON at byte 8: expected a value"),
        (format!("{}x", minimal()), "the body is not JSON at byte 127: expected nothing more"),
        ("\u{feff}{}".into(), "the body is not JSON at byte 0: expected a value"),
    ];
    for (body, expected) in cases {
        assert_eq!(error(&body).to_string(), expected, "{body}");
    }
    assert_eq!(error(b"{\"a\":\"\xff\"}"), DispatchError::Json(JsonError::Utf8 { at: 6 }));
    let rejection = Rejection::from(error("{}"));
    assert_eq!((rejection.status, &*rejection.error), (400, "dequeuedMessage is missing"));
}

#[test]
fn names_are_compared_decoded() {
    let escaped = minimal()
        .replace("deployment", r"\u0064eploymen\u0074")
        .replace("cpu", r"\u0063\u0070\u0075")
        .replace("dequeuedMessage", r"dequeued\u004dessage");
    assert_eq!(parsed(&escaped).deployment, "d");
    // Half a surrogate pair in another name, which does not equal the name without it.
    let odd = minimal().replace(r#""cpu":"#, r#""\ud800cpu":"x","cpu\udc00":{},"cpu":"#);
    assert_eq!(parsed(&odd).cpu.get(), 1.0);
    for (name, path) in [
        (r#"\u0072un"#, Field::Run),
        ("backgroundWorke\\u0072", Field::Worker),
        ("deployment", Field::Deployment),
    ] {
        let twice = minimal().replace(r#":{"deployment""#, &format!(r#":{{"{name}":{{}},"deployment""#));
        assert_eq!(error(&twice), DispatchError::Repeated(path), "{twice}");
    }
}

#[test]
fn fields_and_their_containers_must_not_repeat() {
    let machine = r#""machine":{"cpu":1,"memory":2}"#;
    for (from, to, field) in [
        (r#""cpu":1"#, r#""cpu":1,"cpu":1"#.to_owned(), Field::Cpu),
        (r#""memory":2"#, r#""memory":2,"memory":2"#.to_owned(), Field::Memory),
        (machine, format!("{machine},{machine}"), Field::Machine),
        (machine, format!(r#""friendlyId":1,"friendlyId":"a",{machine}"#), Field::RunId),
        (r#""version":"v""#, r#""version":"v","version":"v""#.to_owned(), Field::WorkerVersion),
        (r#""friendlyId":"d""#, r#""friendlyId":"d","x":1,"friendlyId":"e""#.to_owned(), Field::DeploymentId),
        ("}}}}", r#"}}},"dequeuedMessage":{}}"#.to_owned(), Field::Message),
    ] {
        let twice = minimal().replace(from, &to);
        assert_ne!(twice, minimal());
        assert_eq!(error(&twice), DispatchError::Repeated(field), "{twice}");
    }
    // Elsewhere names may repeat, including these.
    let elsewhere = minimal().replace(
        r#""deployment":"#,
        r#""x":1,"x":2,"cpu":1,"cpu":2,"o":{"run":1,"run":{"machine":1}},"deployment":"#,
    );
    parsed(&elsewhere);
}

#[test]
fn every_escape_in_the_key() {
    let escapes = r#""\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\ude00 é""#;
    let body = body(escapes, r#""v""#, "1", "1");
    let expected: String = serde_json::from_str(escapes).unwrap();
    assert_eq!(parsed(&body).deployment, expected);
    for bad in [r#""\x""#, r#""\u12g4""#, r#""\u123""#, r#""\"#, "\"\n\"", "\"\0\"", r#""\U0041""#] {
        let body = minimal().replace(r#""d""#, bad);
        let body = body.as_bytes();
        assert!(
            matches!(error(body), DispatchError::Json(JsonError::Syntax { .. } | JsonError::Truncated)),
            "{bad}"
        );
    }
}

#[test]
fn the_run_id_is_optional() {
    for (value, expected) in [
        (r#""run_1""#, Some("run_1")),
        (r#""run\u005f1""#, Some("run_1")),
        (r#""\ud800""#, None),
        ("null", None),
        (r#"{"a":[1]}"#, None),
    ] {
        let body = minimal().replace(r#""machine""#, &format!(r#""friendlyId":{value},"machine""#));
        assert_eq!(parsed(&body).run_id.as_deref(), expected, "{value}");
    }
}

/// Runs a test on a stack that fits a hundred frames, but not a hundred thousand.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(128 * 1024);
    thread.spawn(test).unwrap().join().unwrap();
}

#[test]
fn depth_uses_no_stack() {
    on_a_small_stack(|| {
        for depth in [1, 63, 64, 65, 127, 128, 129, 100_000] {
            for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"b":[0,{"run":"#, "}]}]")] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let inside = minimal().replace(r#""run""#, &format!(r#""deep":{deep},"run""#));
                assert_eq!(parsed(&inside).cpu.get(), 1.0);
                let outside = minimal().replacen('{', &format!(r#"{{"deep":{deep},"#), 1);
                assert_eq!(parsed(&outside).cpu.get(), 1.0);
                // In place of a field of the key.
                let field = minimal().replace(r#""d""#, &deep);
                assert_eq!(error(field.as_bytes()), DispatchError::Type(Field::DeploymentId));
                // One bracket too few, one too many, one of the wrong kind.
                let short = inside.replacen(close, "", 1);
                assert!(parse_dispatch(short.as_bytes()).is_err());
                let long = inside.replacen("1", &format!("1{close}"), 1);
                assert!(parse_dispatch(long.as_bytes()).is_err());
                let wrong = format!("{}1{}}}", open.repeat(depth), &close.repeat(depth)[1..]);
                let wrong = minimal().replace(r#""run""#, &format!(r#""deep":{wrong},"run""#));
                assert_eq!(parse_dispatch(wrong.as_bytes()).is_ok(), open == r#"{"a":"#);
            }
        }
    });
}

/// In quadratic time these would take hours.
#[test]
fn time_is_linear() {
    const LEN: usize = 10 << 20;
    let embed = |junk: String| minimal().replace(r#""run""#, &format!(r#""junk":{junk},"run""#));
    let fill = |unit: &str| unit.repeat(LEN / unit.len());
    for junk in [
        format!("\"{}\"", fill("a")),
        format!("\"{}\"", fill(r"\\")),
        format!("\"{}\"", fill(r"\ud800")),
        format!("\"{}\"", fill("é€😀")),
        format!("[{}1]", fill("1,")),
        format!("[{}1]", fill(" \t\r\n")),
        format!("{{{}\"\":1}}", fill(r#""":1,"#)),
        format!("-{}.0e-{}", fill("1"), fill("1")),
        format!("{}{}", fill("["), fill("]")),
    ] {
        let body = embed(junk);
        assert_eq!(parsed(&body).message.len(), body.len() - r#"{"dequeuedMessage":}"#.len());
    }
    for junk in [fill("["), fill(r#"{"":"#), fill("\""), format!("\"{}", fill(r"\u00"))] {
        assert!(parse_dispatch(embed(junk).as_bytes()).is_err());
    }
    // An escaped name, decoded once.
    let name = format!(r#"{{"{}":1}}"#, fill(r"\u0061"));
    assert_eq!(error(name.as_bytes()), DispatchError::Missing(Field::Message));
    let id = body(&format!("\"{}\"", fill(r"\u0061")), r#""v""#, "1", "1");
    assert_eq!(parsed(&id).deployment.len(), LEN / 6);
}
