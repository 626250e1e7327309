//! The members of one object, without those of nested ones.

use super::error::{Expected, JsonError};
use super::scan::Scanner;
use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq)]
pub enum Value<'b> {
    /// A string, escapes decoded.
    Text(Cow<'b, str>),
    /// A number as written.
    Number(&'b [u8]),
    /// Any other value; also a string with half of a surrogate pair, which is not Unicode.
    Other,
}

/// Calls `visit` with each member of the object `text`, in order. Names are decoded and may repeat.
///
/// # Errors
/// `text` is not one JSON object (RFC 8259) in UTF-8. Members up to the fault have been visited.
pub fn each_member<'b>(text: &'b [u8], mut visit: impl FnMut(&str, Value<'b>)) -> Result<(), JsonError> {
    std::str::from_utf8(text)?;
    let mut scan = Scanner::new(text);
    scan.expect(b'{', Expected::Value)?;
    let mut has_members = scan.has_members()?;
    while has_members {
        let (name, next) = scan.name()?;
        // A name that is not Unicode matches no known name.
        let name = name.decode().unwrap_or_default();
        let value = match next {
            b'"' => scan.string()?.decode().map_or(Value::Other, Value::Text),
            b'-' | b'0'..=b'9' => Value::Number(scan.number()?),
            _ => {
                scan.skip_value()?;
                Value::Other
            }
        };
        visit(&name, value);
        has_members = scan.skip_if(b',');
        if has_members {
            scan.expect_name()?;
        }
    }
    scan.expect(b'}', Expected::NextMember)?;
    scan.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(text: &[u8]) -> Result<Vec<(String, Value<'_>)>, JsonError> {
        let mut all = Vec::new();
        each_member(text, |name, value| all.push((name.to_owned(), value)))?;
        Ok(all)
    }

    #[test]
    fn members_come_in_order_and_may_repeat() {
        let text = r#" { "a" : "x\u0041" , "\u0061":1e3,"b":[{"a":2},"}"], "c" : null , "d":"\ud800"} "#;
        let text_of = |text: &'static str| Value::Text(Cow::Borrowed(text));
        assert_eq!(
            members(text.as_bytes()).unwrap(),
            [
                ("a".to_owned(), text_of("xA")),
                ("a".to_owned(), Value::Number(b"1e3")),
                ("b".to_owned(), Value::Other),
                ("c".to_owned(), Value::Other),
                ("d".to_owned(), Value::Other),
            ]
        );
        assert_eq!(members(b"{}").unwrap(), []);
    }

    #[test]
    fn refuses_everything_but_one_object() {
        for text in [
            &b""[..],
            b" ",
            b"[]",
            b"[\"HS256\"]",
            b"\"{}\"",
            b"null",
            b"{",
            b"{}{}",
            b"{} x",
            b"{,}",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{a:1}",
            b"{'a':1}",
            b"{\"a\":01}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{}\0",
        ] {
            assert!(members(text).is_err(), "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn accepts_the_same_objects_as_serde_json(text in r#"[{}\[\]",:a1\\u0 tn]{0,12}"#) {
            let expected = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            // serde_json refuses lone surrogates, which are grammatical, and numbers out of its range.
            prop_assume!(!text.contains("\\u"));
            let ours = members(text.as_bytes()).ok().map(|all| {
                all.into_iter().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>()
            });
            let expected = expected.ok().map(|map| map.keys().cloned().collect());
            prop_assert_eq!(ours, expected);
        }
    }
}
