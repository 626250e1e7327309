use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::*;

/// What a supervisor sends, in shape and size; the ids are made up.
const REALISTIC: &str = r#"{"dequeuedMessage":{"version":"1","snapshot":{"id":"cmeqg7v1x0a2b01mt5h4k9z3d","friendlyId":"snapshot_f8kq3v7m2x9c4w1p","executionStatus":"PENDING_EXECUTING","description":"Run was QUEUED, and now is PENDING_EXECUTING","createdAt":"2026-07-14T09:31:22.418Z"},"dequeuedAt":"2026-07-14T09:31:22.431Z","workerQueueLength":3,"image":"registry.internal/trigger/proj_zkqmwlxbtr:20260714.3.prod@sha256:4f1c2a9d8e7b60f5a3c1d9e2b8f7061524c3d4e5f60718293a4b5c6d7e8f9012","checkpoint":null,"completedWaitpoints":[],"backgroundWorker":{"id":"cmeqf0k2v000101pb7d3e8w5n","friendlyId":"worker_3hx8n5c1v7k2m9q4","version":"20260714.3","runtime":"node-22"},"deployment":{"id":"cmeqf0m9c000301pbb1r7t2xa","friendlyId":"deployment_q7w2e9r4t1y6u3i8","imagePlatform":"linux/amd64"},"run":{"id":"cmeqg7tzw0a1x01mt2v9n6k4s","friendlyId":"run_m4k8x2c7v1b9n5z3","isTest":false,"isReplay":false,"machine":{"name":"small-1x","cpu":0.5,"memory":0.5,"centsPerMs":0.0000338},"attemptNumber":1,"masterQueue":"main","traceContext":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"dd=s:1;p:00f067aa0ba902b7;t.dm:-0,es=s:0.5","external":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},"annotations":{"triggerSource":"sdk","triggerAction":"trigger","rootTriggerSource":"sdk","idempotencyKey":"order-2026-07-14-000418"}},"environment":{"id":"cmeqe91aa000001pb4c2s8h6j","type":"PRODUCTION"},"organization":{"id":"cmeqe8zzz000201pb9x4v1b7n","hasPrivateLink":false},"project":{"id":"cmeqe90bc000101pb0m5k3w2q"},"placementTags":[]}}"#;

/// A body with these values in the key's places.
fn body(deployment: &str, version: &str, cpu: &str, memory: &str) -> String {
    format!(
        r#"{{"dequeuedMessage":{{"deployment":{{"friendlyId":{deployment}}},"backgroundWorker":{{"version":{version}}},"run":{{"machine":{{"cpu":{cpu},"memory":{memory}}}}}}}}}"#
    )
}

fn minimal() -> String {
    body(r#""d""#, r#""v""#, "1", "2")
}

fn parsed(body: &str) -> Dispatch<'_> {
    parse_dispatch(body.as_bytes()).unwrap_or_else(|error| panic!("{error} in {body:.2000}"))
}

fn error(body: impl AsRef<[u8]> + Debug) -> JsonError {
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
    assert!(matches!(
        dispatch.deployment,
        Cow::Borrowed("deployment_q7w2e9r4t1y6u3i8")
    ));
    assert!(matches!(dispatch.version, Cow::Borrowed("20260714.3")));
    assert_eq!(dispatch.run_id.as_deref(), Some("run_m4k8x2c7v1b9n5z3"));
    assert_eq!(dispatch.cpu, Number::parse("0.5").unwrap());
    assert_eq!(dispatch.memory, Number::parse("0.5").unwrap());
    assert_eq!(dispatch.key().deployment, "deployment_q7w2e9r4t1y6u3i8");
}

#[test]
fn the_message_is_what_was_sent() {
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
fn what_is_at_fault_is_named() {
    let d = r#""d""#;
    let cases: Vec<(String, &str)> = vec![
        ("[]".into(), "the body must be an object"),
        ("null".into(), "the body must be an object"),
        ("{}".into(), "dequeuedMessage is missing"),
        (
            r#"{"dequeuedMessage":[]}"#.into(),
            "dequeuedMessage must be an object",
        ),
        (
            r#"{"dequeuedMessage":{}}"#.into(),
            "dequeuedMessage.deployment is missing",
        ),
        (
            r#"{"dequeuedMessage":{"deployment":null}}"#.into(),
            "dequeuedMessage.deployment must be an object",
        ),
        (
            r#"{"dequeuedMessage":{"deployment":{}}}"#.into(),
            "dequeuedMessage.deployment.friendlyId is missing",
        ),
        (
            body("1", d, "1", "1"),
            "dequeuedMessage.deployment.friendlyId must be a string",
        ),
        (
            body("null", d, "1", "1"),
            "dequeuedMessage.deployment.friendlyId must be a string",
        ),
        (
            body(d, "[]", "1", "1"),
            "dequeuedMessage.backgroundWorker.version must be a string",
        ),
        (
            body(d, d, d, "1"),
            "dequeuedMessage.run.machine.cpu must be a number",
        ),
        (
            body(d, d, "true", "1"),
            "dequeuedMessage.run.machine.cpu must be a number",
        ),
        (
            body(d, d, "1", "{}"),
            "dequeuedMessage.run.machine.memory must be a number",
        ),
        (
            body(d, d, "1e999", "1"),
            "dequeuedMessage.run.machine.cpu is out of range",
        ),
        (
            body(r#""\ud800""#, d, "1", "1"),
            "dequeuedMessage.deployment.friendlyId holds half of a surrogate pair",
        ),
        (
            body(d, r#""\udc00\ud800""#, "1", "1"),
            "dequeuedMessage.backgroundWorker.version holds half of a surrogate pair",
        ),
        (
            body(d, r#""\ud800\u0061""#, "1", "1"),
            "dequeuedMessage.backgroundWorker.version holds half of a surrogate pair",
        ),
        (
            minimal().replace("cpu", "gpu"),
            "dequeuedMessage.run.machine.cpu is missing",
        ),
        (
            minimal().replace("machine", "m"),
            "dequeuedMessage.run.machine is missing",
        ),
        (
            minimal().replace("run", "m"),
            "dequeuedMessage.run is missing",
        ),
        (
            minimal().replace("version", "m"),
            "dequeuedMessage.backgroundWorker.version is missing",
        ),
        ("".into(), "the body is not JSON: it ends too soon"),
        ("{".into(), "the body is not JSON: it ends too soon"),
        (r#"{"a""#.into(), "the body is not JSON: it ends too soon"),
        (
            r#"{"a":tru"#.into(),
            "the body is not JSON: it ends too soon",
        ),
        (
            r#"{"a":trux}"#.into(),
            "the body is not JSON at byte 8: expected true",
        ),
        (
            r#"{"a":01}"#.into(),
            "the body is not JSON at byte 6: expected `,` or `}`",
        ),
        (
            r#"{"a":1.}"#.into(),
            "the body is not JSON at byte 7: expected a digit",
        ),
        (
            r#"{"a":1 "b":2}"#.into(),
            "the body is not JSON at byte 7: expected `,` or `}`",
        ),
        (
            r#"{"a":[1}"#.into(),
            "the body is not JSON at byte 7: expected `,` or `]`",
        ),
        (
            r#"{"a" 1}"#.into(),
            "the body is not JSON at byte 5: expected `:`",
        ),
        (
            r#"{a:1}"#.into(),
            "the body is not JSON at byte 1: expected a name in quotes",
        ),
        (
            r#"{"a":1,}"#.into(),
            "the body is not JSON at byte 7: expected a name in quotes",
        ),
        (
            r#"{"a":[1,]}"#.into(),
            "the body is not JSON at byte 8: expected a value",
        ),
        (
            format!("{}x", minimal()),
            "the body is not JSON at byte 127: expected nothing more",
        ),
        (
            "\u{feff}{}".into(),
            "the body is not JSON at byte 0: expected a value",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(error(&body).to_string(), expected, "{body}");
    }
    assert_eq!(error(b"{\"a\":\"\xff\"}"), JsonError::Utf8 { at: 6 });
    let rejection = Rejection::from(error("{}"));
    assert_eq!(
        (rejection.status, &*rejection.error),
        (400, "dequeuedMessage is missing")
    );
}

#[test]
fn names_count_by_what_they_mean() {
    let escaped = minimal()
        .replace("deployment", r"\u0064eploymen\u0074")
        .replace("cpu", r"\u0063\u0070\u0075")
        .replace("dequeuedMessage", r"dequeued\u004dessage");
    assert_eq!(parsed(&escaped).deployment, "d");
    // Half a pair in a name that does not matter; and it is not the name without it.
    let odd = minimal().replace(r#""cpu":"#, r#""\ud800cpu":"x","cpu\udc00":{},"cpu":"#);
    assert_eq!(parsed(&odd).cpu.get(), 1.0);
    for (name, path) in [
        (r#"\u0072un"#, Field::Run),
        ("backgroundWorke\\u0072", Field::Worker),
        ("deployment", Field::Deployment),
    ] {
        let twice = minimal().replace(
            r#":{"deployment""#,
            &format!(r#":{{"{name}":{{}},"deployment""#),
        );
        assert_eq!(error(&twice), JsonError::Repeated(path), "{twice}");
    }
}

#[test]
fn names_on_the_way_to_the_key_are_there_once() {
    let machine = r#""machine":{"cpu":1,"memory":2}"#;
    for (from, to, field) in [
        (r#""cpu":1"#, r#""cpu":1,"cpu":1"#.to_owned(), Field::Cpu),
        (
            r#""memory":2"#,
            r#""memory":2,"memory":2"#.to_owned(),
            Field::Memory,
        ),
        (machine, format!("{machine},{machine}"), Field::Machine),
        (
            machine,
            format!(r#""friendlyId":1,"friendlyId":"a",{machine}"#),
            Field::RunId,
        ),
        (
            r#""version":"v""#,
            r#""version":"v","version":"v""#.to_owned(),
            Field::WorkerVersion,
        ),
        (
            r#""friendlyId":"d""#,
            r#""friendlyId":"d","x":1,"friendlyId":"e""#.to_owned(),
            Field::DeploymentId,
        ),
        (
            "}}}}",
            r#"}}},"dequeuedMessage":{}}"#.to_owned(),
            Field::Message,
        ),
    ] {
        let twice = minimal().replace(from, &to);
        assert_ne!(twice, minimal());
        assert_eq!(error(&twice), JsonError::Repeated(field), "{twice}");
    }
    // Elsewhere names may repeat, the same ones too.
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
    for bad in [
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u123""#,
        r#""\"#,
        "\"\n\"",
        "\"\0\"",
        r#""\U0041""#,
    ] {
        let body = minimal().replace(r#""d""#, bad);
        let body = body.as_bytes();
        assert!(
            matches!(error(body), JsonError::Syntax { .. } | JsonError::Truncated),
            "{bad}"
        );
    }
}

#[test]
fn a_run_id_is_never_required() {
    for (value, expected) in [
        (r#""run_1""#, Some("run_1")),
        (r#""run\u005f1""#, Some("run_1")),
        (r#""\ud800""#, None),
        ("null", None),
        (r#"{"a":[1]}"#, None),
    ] {
        let body = minimal().replace(
            r#""machine""#,
            &format!(r#""friendlyId":{value},"machine""#),
        );
        assert_eq!(parsed(&body).run_id.as_deref(), expected, "{value}");
    }
}

/// On a stack on which a hundred frames fit, not a hundred thousand.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(128 * 1024);
    thread.spawn(test).unwrap().join().unwrap();
}

#[test]
fn depth_costs_no_stack() {
    on_a_small_stack(|| {
        for depth in [1, 63, 64, 65, 127, 128, 129, 100_000] {
            for (open, close) in [
                ("[", "]"),
                (r#"{"a":"#, "}"),
                (r#"[{"b":[0,{"run":"#, "}]}]"),
            ] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let inside = minimal().replace(r#""run""#, &format!(r#""deep":{deep},"run""#));
                assert_eq!(parsed(&inside).cpu.get(), 1.0);
                let outside = minimal().replacen('{', &format!(r#"{{"deep":{deep},"#), 1);
                assert_eq!(parsed(&outside).cpu.get(), 1.0);
                // In a key field's place.
                let field = minimal().replace(r#""d""#, &deep);
                assert_eq!(
                    error(field.as_bytes()),
                    JsonError::Type(Field::DeploymentId)
                );
                // One bracket too few, too many, and of the wrong kind.
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

/// Quadratic time would take hours for these.
#[test]
fn ten_megabytes_of_anything() {
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
        assert_eq!(
            parsed(&body).message.len(),
            body.len() - r#"{"dequeuedMessage":}"#.len()
        );
    }
    for junk in [
        fill("["),
        fill(r#"{"":"#),
        fill("\""),
        format!("\"{}", fill(r"\u00")),
    ] {
        assert!(parse_dispatch(embed(junk).as_bytes()).is_err());
    }
    // An escaped name, decoded once.
    let name = format!(r#"{{"{}":1}}"#, fill(r"\u0061"));
    assert_eq!(error(name.as_bytes()), JsonError::Missing(Field::Message));
    let id = body(&format!("\"{}\"", fill(r"\u0061")), r#""v""#, "1", "1");
    assert_eq!(parsed(&id).deployment.len(), LEN / 6);
}

/// A JSON value as serde_json sees it, with repeated names kept.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text(String),
    Number(f64),
    Other,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct Build;
        impl<'de> Visitor<'de> for Build {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Node::Array(elements))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }
        deserializer.deserialize_any(Build)
    }
}

impl Node {
    /// The one member of that name; `None` for none and for two.
    fn only(&self, name: &str) -> Option<&Node> {
        let Node::Object(members) = self else {
            return None;
        };
        let mut found = members.iter().filter(|(n, _)| n == name);
        found
            .next()
            .filter(|_| found.next().is_none())
            .map(|(_, value)| value)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Node::Number(value) => Some(*value),
            _ => None,
        }
    }
}

/// Holds `parse_dispatch` against serde_json.
fn check(body: &[u8]) -> Result<(), TestCaseError> {
    let ours = parse_dispatch(body);
    let text = std::str::from_utf8(body).ok();
    let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        prop_assert!(ours.is_err(), "accepted what is no JSON");
        return Ok(());
    }
    if let Err(JsonError::Utf8 { .. } | JsonError::Syntax { .. } | JsonError::Truncated) = ours {
        prop_assert!(false, "{} in what is JSON", ours.unwrap_err());
    }
    let Ok(root) = serde_json::from_slice::<Node>(body) else {
        return Ok(()); // Half a surrogate pair, or 1e999, which it does not read.
    };
    let expected = (|| {
        let message = root.only("dequeuedMessage")?;
        let run = message.only("run")?;
        let machine = run.only("machine")?;
        let Node::Object(members) = run else {
            return None;
        };
        let mut run_ids = members.iter().filter(|(name, _)| name == "friendlyId");
        let run_id = run_ids.next();
        if run_ids.next().is_some() {
            return None;
        }
        Some((
            message,
            message.only("deployment")?.only("friendlyId")?.text()?,
            message.only("backgroundWorker")?.only("version")?.text()?,
            machine.only("cpu")?.number()?,
            machine.only("memory")?.number()?,
            run_id.and_then(|(_, value)| value.text()),
        ))
    })();
    match (ours, expected) {
        (Err(_), None) => Ok(()),
        (Ok(ours), Some((message, deployment, version, cpu, memory, run_id))) => {
            prop_assert_eq!(&ours.deployment, deployment);
            prop_assert_eq!(&ours.version, version);
            prop_assert_eq!(ours.run_id.as_deref(), run_id);
            // serde_json's quick reading of numbers may be off in the last bit.
            let near = |a: f64, b: f64| (a - b).abs() <= b.abs() * 1e-15;
            prop_assert!(near(ours.cpu.get(), cpu) && near(ours.memory.get(), memory));
            let again: Node = serde_json::from_slice(ours.message).unwrap();
            prop_assert_eq!(&again, message);
            let braces = (ours.message.first(), ours.message.last());
            prop_assert_eq!(braces, (Some(&b'{'), Some(&b'}')));
            Ok(())
        }
        (ours, expected) => {
            prop_assert!(false, "ours {:?}, serde_json {:?}", ours, expected);
            Ok(())
        }
    }
}

/// What to do to a message at a place (in 65,536ths of its length).
#[derive(Clone, Debug)]
enum Change {
    Insert(&'static [u8]),
    Replace(&'static [u8]),
    Delete(usize),
    Repeat(usize),
    Truncate,
    /// Swap a whole name for another one.
    Rename(&'static str),
}

fn changes() -> impl Strategy<Value = Vec<(u16, Change)>> {
    const TOKENS: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0",
        b"-",
        b"1.5",
        b".",
        b"e",
        b"E+1",
        b" ",
        b"\n",
        b"\t",
        b"\r",
        b"\0",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xc3\xa9",
        b"\xff",
        b"\xef\xbb\xbf",
        b"null",
        b"true",
        b"false",
        b"nul",
        b"\\u0041",
        b"\\ud800",
        b"\\udc00",
        b"\\u00",
        b"\\n",
        b"\\x",
        b"{}",
        b"[]",
        b"\"\"",
        b"\"run\":{},",
        b"\"cpu\":1,",
        b"\"\\u0063pu\":1,",
        b"\"friendlyId\":\"x\",",
        b"1e999",
        b"[[[[",
        b"]]]]",
        b"/**/",
        b"NaN",
    ];
    const NAMES: &[&str] = &[
        "run",
        "machine",
        "cpu",
        "memory",
        "deployment",
        "friendlyId",
        "version",
        "backgroundWorker",
        "dequeuedMessage",
        "",
        "id",
        r"\u0072un",
        r"\u0069d",
        r"\ud800",
    ];
    let change = prop_oneof![
        prop::sample::select(TOKENS).prop_map(Change::Insert),
        prop::sample::select(TOKENS).prop_map(Change::Replace),
        (1usize..40).prop_map(Change::Delete),
        (1usize..40).prop_map(Change::Repeat),
        Just(Change::Truncate),
        prop::sample::select(NAMES).prop_map(Change::Rename),
    ];
    prop::collection::vec((any::<u16>(), change), 0..4)
}

fn changed(mut body: Vec<u8>, changes: Vec<(u16, Change)>) -> Vec<u8> {
    for (place, change) in changes {
        let at = body.len() * usize::from(place) / 65_536;
        let until = |len: usize| (at + len).min(body.len());
        match change {
            Change::Insert(token) => drop(body.splice(at..at, token.iter().copied())),
            Change::Replace(token) => drop(body.splice(at..until(1), token.iter().copied())),
            Change::Delete(len) => drop(body.drain(at..until(len))),
            Change::Repeat(len) => {
                let again = body[at..until(len)].to_vec();
                drop(body.splice(at..at, again));
            }
            Change::Truncate => body.truncate(at),
            Change::Rename(name) => {
                let Some(colon) = memchr::memmem::find(&body[at..], b"\":") else {
                    continue;
                };
                let end = at + colon;
                let start = memchr::memrchr(b'"', &body[..end]).map_or(0, |quote| quote + 1);
                drop(body.splice(start..end, name.bytes()));
            }
        }
    }
    body
}

/// JSON with the names that matter everywhere, laid out and escaped at random.
fn documents() -> impl Strategy<Value = String> {
    let blank = || prop::sample::select(vec!["", "", "", " ", "\n", "\t\r\n  "]);
    let text = prop_oneof![
        r#"[a-zA-Z_ é€😀/\x7f]{0,20}"#,
        Just(r#"\u0061\n\"\\\/"#.to_owned()),
        Just(r"\ud83d\ude00".to_owned()),
    ];
    let name = prop::sample::select(vec![
        "dequeuedMessage",
        "run",
        "machine",
        "cpu",
        "memory",
        "deployment",
        "friendlyId",
        "version",
        "backgroundWorker",
        "x",
        r"c\u0070u",
        r"\n",
    ]);
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][-+]?[0-9])?",
        text.prop_map(|text| format!("\"{text}\"")),
        prop::sample::select(vec!["true", "false", "null", "{}", "[ ]"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let element = (blank(), inner.clone(), blank()).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
        let member = (blank(), name.clone(), blank(), element.clone())
            .prop_map(|(a, name, b, value)| format!("{a}\"{name}\"{b}:{value}"));
        prop_oneof![
            prop::collection::vec(element, 1..4).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec(member, 1..6).prop_map(|v| format!("{{{}}}", v.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_serde_json_on_damaged_messages(changes in changes()) {
        check(&changed(REALISTIC.into(), changes))?;
    }

    #[test]
    fn agrees_with_serde_json_on_damaged_small_ones(changes in changes()) {
        check(&changed(minimal().into(), changes))?;
    }

    #[test]
    fn agrees_with_serde_json_on_documents(junk in documents(), field in 0usize..7) {
        check(junk.as_bytes())?;
        // In front of a member, and in place of each value on the way.
        check(minimal().replace(r#""run""#, &format!(r#""x":{junk},"run""#)).as_bytes())?;
        let values = ["\"d\"", "\"v\"", "1", "2", "{\"cpu\":1,\"memory\":2}", "{\"version\":\"v\"}"];
        let body = match values.get(field) {
            Some(value) => minimal().replacen(value, &junk, 1),
            None => format!(r#"{{"dequeuedMessage":{junk}}}"#),
        };
        check(body.as_bytes())?;
    }

    #[test]
    fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&body)?;
    }

    #[test]
    fn keys_survive_any_text(deployment in any::<String>(), version in any::<String>()) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let body = body(&quoted(&deployment), &quoted(&version), "1e0", "0.50");
        let dispatch = parsed(&body);
        prop_assert_eq!(dispatch.deployment, deployment);
        prop_assert_eq!(dispatch.version, version);
    }

    #[test]
    fn finds_specials_as_the_naive_loop_does(
        bytes in prop::collection::vec(prop_oneof![
            4 => any::<u8>(), 6 => b' '..=b'~', 1 => Just(b'"'), 1 => Just(b'\\'),
            1 => 0x1eu8..=0x23, 1 => 0x5bu8..=0x5d, 1 => 0x80u8..=0xff,
        ], 0..40),
        from in 0usize..40,
    ) {
        let from = from.min(bytes.len());
        let naive = (from..bytes.len()).find(|&at| matches!(bytes[at], b'"' | b'\\' | 0..=0x1f));
        prop_assert_eq!(scan::next_special(&bytes, from), naive.unwrap_or(bytes.len()));
    }
}
