//! Heads as clients usually send them: one pass that splits the fields 16 bytes at a time.
//!
//! Accepts a subset of what `httparse` accepts, and reads it the same way. It never refuses a head: one outside
//! the subset, malformed or only unusual, goes to `httparse`.

use super::application::Application;
use super::fields::Fields;
use super::framing::Version;
use super::head::{HEADER_FIELDS_MAX, Head, Method};
use super::target::Target;
use wide::i8x16;

/// Bytes per step, as many as one instruction compares.
const STEP: usize = 16;

/// The head at the start of `buf` and its length in bytes, if the head is complete and valid, and:
/// - consists of visible ASCII characters, spaces and line ends;
/// - has the method GET or POST, a path as its target, and version 1.1;
/// - has only fields of the form `name: value`, without further white space around the value.
#[inline(always)]
pub(super) fn parse<'b, A: Application<'b>>(buf: &'b [u8]) -> Option<(Head<'b, A>, usize)> {
    let (method, rest) = match buf.strip_prefix(b"GET ") {
        Some(rest) => (Method::Get, rest),
        None => (Method::Post, buf.strip_prefix(b"POST ")?),
    };
    let (line, mut rest) = until_line_end(rest)?;
    let target = match line.strip_suffix(b" HTTP/1.1")? {
        // The target of nearly all requests needs no check.
        target if target == A::USUAL_TARGET.as_bytes() => Target { path: A::USUAL_TARGET, authority: None },
        target @ [b'/', ..] => Target::parse(std::str::from_utf8(target).ok()?, false).ok()?,
        _ => return None,
    };
    let mut fields = Fields::<'b, A>::default();
    for _ in 0..=HEADER_FIELDS_MAX {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            let head = Head::new(method, Version::Http11, target, fields).ok()?;
            return Some((head, buf.len() - after.len()));
        }
        let (name, after) = rest.split_at(leading(rest, is_token));
        let (value, after) = until_line_end(after.strip_prefix(b": ")?)?;
        if name.is_empty() || matches!(value, [] | [b' ', ..] | [.., b' ']) {
            return None;
        }
        fields.take(name, value).ok()?;
        rest = after;
    }
    None
}

/// Splits at the first line end: the plain bytes before it, and everything after it.
#[inline(always)]
fn until_line_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, after) = text.split_at(leading(text, is_plain));
    Some((line, after.strip_prefix(b"\r\n")?))
}

/// The number of bytes of one class at the start of `text`. No class may contain NUL.
#[inline(always)]
fn leading(text: &[u8], class: impl Fn(i8x16) -> i8x16) -> usize {
    // `to_bitmask` leaves the bits above the 16th clear, so the complement ends the count there.
    let of =
        |part: &[u8; STEP]| (!class(i8x16::new(part.map(|byte| byte as i8))).to_bitmask()).trailing_zeros();
    let mut rest = text;
    while let Some((part, after)) = rest.split_first_chunk() {
        let len = of(part) as usize;
        if len < STEP {
            return text.len() - rest.len() + len;
        }
        rest = after;
    }
    let mut last = [0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    text.len() - rest.len() + of(&last) as usize
}

/// The characters from space to tilde.
#[inline(always)]
fn is_plain(part: i8x16) -> i8x16 {
    up_to(part, b'~').simd_gt(above(b' ', b'~'))
}

/// Letters, digits and hyphens: the characters that RFC 9110 section 5.1 recommends for names. It allows more.
#[inline(always)]
fn is_token(part: i8x16) -> i8x16 {
    let lower = part | i8x16::splat(b'a' as i8 ^ b'A' as i8);
    up_to(lower, b'z').simd_gt(above(b'a', b'z'))
        | up_to(part, b'9').simd_gt(above(b'0', b'9'))
        | part.simd_eq(i8x16::splat(b'-' as i8))
}

/// Shifts the bytes so that `last` becomes the greatest `i8`: all greater bytes become negative.
#[inline(always)]
fn up_to(part: i8x16, last: u8) -> i8x16 {
    part + i8x16::splat(i8::MAX - last as i8)
}

/// The value just below `first`, shifted in the same way.
#[inline(always)]
fn above(first: u8, last: u8) -> i8x16 {
    i8x16::splat(i8::MAX - (last - first) as i8 - 1)
}

#[cfg(test)]
mod tests {
    use super::super::read::{parse_head, read_head};
    use super::super::tests::{Plain, heads};
    use super::super::{HeadScanner, Rejection};
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 16 * 1024;

    /// The same head as read without this module.
    fn by_httparse(buf: &[u8]) -> Result<Option<(Head<'_, Plain>, usize)>, Rejection> {
        match HeadScanner::default().advance(buf, MAX)? {
            Some(len) => Ok(Some((parse_head(&buf[..len])?, len))),
            None => Ok(None),
        }
    }

    /// Reads the head in two fragments.
    fn in_two(buf: &[u8], first_len: usize) -> Result<Option<(Head<'_, Plain>, usize)>, Rejection> {
        let mut scanner = HeadScanner::default();
        match read_head(&mut scanner, &buf[..first_len], MAX)? {
            None => read_head(&mut scanner, buf, MAX),
            whole => Ok(whole),
        }
    }

    fn debugged<T: std::fmt::Debug>(found: &T) -> String {
        format!("{found:?}")
    }

    #[test]
    fn heads_of_common_clients_are_read_in_one_pass() {
        let fields = "host: pilotlight.trigger.svc:8040\r\nconnection: keep-alive\r\n\
            x-trigger-workload-controller-id: controller_8c1f\r\nx-trigger-machine-cpu: 0.5\r\n\
            accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
            accept-encoding: gzip, deflate\r\n";
        for line in ["GET /connect", "GET /warm-start", "POST /warm-start"] {
            let buf = format!("{line} HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n[\0\n");
            let (head, len) = parse::<Plain>(buf.as_bytes()).expect("plain");
            assert_eq!(
                (head.target, &buf.as_bytes()[len..]),
                (&line[line.find('/').unwrap()..], "[\0\n".as_bytes())
            );
            assert_eq!(
                debugged(&Ok::<_, Rejection>(Some((head, len)))),
                debugged(&by_httparse(buf.as_bytes()))
            );
        }
    }

    #[test]
    fn classifies_every_byte_at_every_position() {
        let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        for byte in 0..=u8::MAX {
            for len in 0..=2 * STEP + 1 {
                for at in 0..len {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    let expected = |holds: bool| if holds { len } else { at };
                    assert_eq!(
                        leading(&text, is_plain),
                        expected(matches!(byte, b' '..=b'~')),
                        "{byte} at {at}"
                    );
                    assert_eq!(leading(&text, is_token), expected(is_in_name(byte)), "{byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn accepts_as_many_fields_as_httparse() {
        for (count, is_plain) in [(HEADER_FIELDS_MAX - 1, true), (HEADER_FIELDS_MAX, false)] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(count));
            assert_eq!(parse::<Plain>(head.as_bytes()).is_some(), is_plain, "{count}");
            assert_eq!(by_httparse(head.as_bytes()).is_ok(), is_plain, "{count}");
        }
    }

    #[test]
    fn respects_the_head_size_limit() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let read =
            |max| read_head::<Plain>(&mut HeadScanner::default(), head, max).map(|found| found.is_some());
        assert_eq!(read(head.len()), Ok(true));
        assert_eq!(read(head.len() - 1).map_err(|rejection| rejection.status), Err(431));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn agrees_with_httparse(bytes in heads(), after in "[ -~]{0,3}", split in any::<prop::sample::Index>()) {
            let buf = [&bytes, after.as_bytes()].concat();
            let expected = by_httparse(&buf);
            if let Some(found) = parse::<Plain>(&buf) {
                prop_assert_eq!(debugged(&Ok::<_, Rejection>(Some(found))), debugged(&expected));
            }
            prop_assert_eq!(debugged(&in_two(&buf, split.index(buf.len() + 1))), debugged(&expected));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse::<Plain>(&bytes);
            let _ = parse::<Plain>(&[b"GET / HTTP/1.1\r\n", &bytes[..]].concat());
        }
    }
}
