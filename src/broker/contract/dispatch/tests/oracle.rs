//! Compares the reader with serde_json, on damaged messages and on random documents.

use super::*;
use proptest::prelude::*;

/// Compares `parse_dispatch` with serde_json.
fn check(body: &[u8]) -> Result<(), TestCaseError> {
    naive::agree(body).map_err(TestCaseError::fail)
}

/// A change to a message; its position is given in 65,536ths of the message's length.
#[derive(Clone, Debug)]
enum Change {
    Insert(&'static [u8]),
    Replace(&'static [u8]),
    Delete(usize),
    Repeat(usize),
    Truncate,
    /// Replace a name.
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

/// JSON with the names of fields anywhere, with random layout and escapes.
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
    fn agrees_with_serde_json_on_damaged_minimal_messages(changes in changes()) {
        check(&changed(minimal().into(), changes))?;
    }

    #[test]
    fn agrees_with_serde_json_on_documents(junk in documents(), field in 0usize..7) {
        check(junk.as_bytes())?;
        // Before a member, and in place of each value that contains a field.
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
    fn any_text_can_be_a_key(deployment in any::<String>(), version in any::<String>()) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let body = body(&quoted(&deployment), &quoted(&version), "1e0", "0.50");
        let dispatch = parsed(&body);
        prop_assert_eq!(dispatch.deployment, deployment);
        prop_assert_eq!(dispatch.version, version);
    }
}
