//! The scanner reads strings in blocks. The result must not depend on where in a block a string starts,
//! ends or has a fault.

use super::*;
use crate::broker::json::BLOCK;

/// More than two blocks.
const LENS: std::ops::Range<usize> = 0..2 * BLOCK + 8;

fn error(body: &[u8]) -> JsonError {
    match parse_dispatch(body) {
        Err(DispatchError::Json(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Bodies that start with `by` bytes of white space, a name of `by` bytes, or a string of `by` bytes.
fn moved(body: &str, by: usize) -> [String; 3] {
    let filler = "x".repeat(by);
    [
        " ".repeat(by) + body,
        body.replacen('{', &format!(r#"{{"{filler}":1,"#), 1),
        body.replacen('{', &format!(r#"{{"":"{filler}","#), 1),
    ]
}

#[test]
fn strings_of_every_length_at_every_position() {
    for by in 0..BLOCK + 8 {
        for len in LENS {
            let text = "a".repeat(len);
            let quoted = format!("\"{text}\"");
            let junk = format!(r#"{quoted}:[{quoted},{quoted}],{quoted}:{{{quoted}:{quoted},{quoted}:0}}"#);
            let whole = body(&quoted, "\"v\"", "1", "2").replacen('{', &format!("{{{junk},"), 1);
            for body in moved(&whole, by) {
                let dispatch = parsed(&body);
                assert!(matches!(dispatch.deployment, Cow::Borrowed(deployment) if deployment == text));
                assert_eq!((&*dispatch.version, dispatch.memory.get()), ("v", 2.0));
            }
        }
    }
}

#[test]
fn escapes_and_non_ascii_at_every_position() {
    for (written, meant) in [
        (r"\u0041", "A"),
        (r"\ud83d\ude00", "😀"),
        (r"\\", "\\"),
        (r#"\""#, "\""),
        (r"\\\\\\", "\\\\\\"),
        ("é", "é"),
        ("😀€é", "😀€é"),
        ("😀\\n€", "😀\n€"),
    ] {
        for before in LENS {
            for after in [0, 1, BLOCK] {
                let around = |middle: &str| "a".repeat(before) + middle + &"a".repeat(after);
                let quoted = format!("\"{}\"", around(written));
                let version = format!("\"{}\"", written);
                let junk = format!(r#"{quoted}:{quoted},"":[{quoted},{{{quoted}:{quoted}}}]"#);
                let whole = body(&quoted, &version, "1", "2").replacen('{', &format!("{{{junk},"), 1);
                let dispatch = parsed(&whole);
                assert_eq!((&*dispatch.deployment, &*dispatch.version), (&*around(meant), meant));
                let is_borrowed = matches!(dispatch.deployment, Cow::Borrowed(_));
                assert_eq!(is_borrowed, !written.contains('\\'), "{written}");
            }
        }
    }
}

#[test]
fn escaped_names_at_every_position() {
    let escaped =
        minimal().replace("deployment", r"\u0064eploymen\u0074").replace("cpu", r"\u0063\u0070\u0075");
    for by in LENS {
        for body in moved(&escaped, by) {
            assert_eq!(parsed(&body).key().deployment, "d");
        }
    }
}

#[test]
fn a_fault_at_every_position() {
    let mut body = REALISTIC.as_bytes().to_vec();
    for at in 0..body.len() {
        let right = std::mem::replace(&mut body[at], 1);
        assert!(matches!(error(&body), JsonError::Syntax { at: found, .. } if found as usize == at), "{at}");
        body[at] = 0xff;
        assert_eq!(error(&body), JsonError::Utf8 { at: at as u32 });
        if at > 0 {
            // A fault in UTF-8 takes precedence.
            body[0] = b'!';
            assert_eq!(error(&body), JsonError::Utf8 { at: at as u32 });
            body[0] = b'{';
        }
        body[at] = right;
        assert_eq!(error(&body[..at]), JsonError::Truncated, "{at}");
    }
}

#[test]
fn the_offset_of_a_fault_counts_all_bytes_before_it() {
    for faulty in [
        r#"{"a":"\x"}"#,
        r#"{"a":"\u00g0"}"#,
        "{\"a\":[\"b\u{1}\"]}",
        r#"{"a" 1}"#,
        r#"{"a":"b":"c"}"#,
        r#"{"a":"b","c","d":"e"}"#,
        r#"{"a":"b",1}"#,
        r#"{"a":{"b":"c","d":"e",}}"#,
        r#"{"a":["b","c":"d"]}"#,
        r#"{"a":["b",]}"#,
        r#"{"a":trux}"#,
        r#"{"a":1.}"#,
        r#"{"a":01}"#,
        r#"{"a":"b"}}"#,
        r#"{"a":{"b":[]]}}"#,
    ] {
        let JsonError::Syntax { at: first, expected } = error(faulty.as_bytes()) else {
            panic!("{faulty}");
        };
        for by in LENS {
            for body in moved(faulty, by) {
                let at = first + (body.len() - faulty.len()) as u32;
                assert_eq!(error(body.as_bytes()), JsonError::Syntax { at, expected }, "{body}");
            }
        }
    }
}

/// White space includes control characters, which are special in strings.
#[test]
fn white_space_of_every_length() {
    let junk = r#"{"x":"y","z":{"a":"b","c":["d","e",1]},"#;
    let tokens = minimal().replacen('{', junk, 1);
    for len in LENS {
        for space in [" ", "\n", "\t\r"] {
            let space = space.repeat(len);
            let mut spaced = space.clone();
            for token in tokens.split_inclusive(['{', '}', '[', ']', ':', ',']) {
                let (inner, last) = token.split_at(token.len() - 1);
                spaced = spaced + inner + &space + last + &space;
            }
            let dispatch = parsed(&spaced);
            assert_eq!((&*dispatch.deployment, dispatch.memory.get()), ("d", 2.0));
        }
    }
}
