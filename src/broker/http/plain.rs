//! Heads as clients send them: fields split sixteen bytes at a time.
//!
//! Reads a narrow part of what `httparse` reads, and reads it the same. It never refuses: what is
//! outside of that part, malformed or merely unusual, is `httparse`'s to judge.

use wide::i8x16;

use super::fields::Fields;
use super::request::{HEADER_FIELDS_MAX, Head, Method, Version};
use super::target::Target;

/// What nearly all ask for: a target that need not be looked at.
const WARM_START: &str = "/warm-start";

/// The head that `buf` starts with and its length, in bytes, if it is there as a whole, nothing is wrong
/// with it, and
/// - its bytes are all visible ASCII characters, spaces and line ends;
/// - its method is GET or POST, its target a path, its version 1.1;
/// - its fields are `name: value`, without further white space around the value.
#[inline(always)]
pub(super) fn parse(buf: &[u8]) -> Option<(Head<'_>, usize)> {
    let (method, rest) = match buf.strip_prefix(b"GET ") {
        Some(rest) => (Method::Get, rest),
        None => (Method::Post, buf.strip_prefix(b"POST ")?),
    };
    let (line, mut rest) = until_line_end(rest)?;
    let target = match line.strip_suffix(b" HTTP/1.1")? {
        target if target == WARM_START.as_bytes() => Target { path: WARM_START, authority: None },
        target @ [b'/', ..] => Target::parse(std::str::from_utf8(target).ok()?, false).ok()?,
        _ => return None,
    };
    let mut fields = Fields::default();
    for _ in 0..=HEADER_FIELDS_MAX {
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            let head = Head::of(method, Version::Http11, target, &fields).ok()?;
            return Some((head, buf.len() - behind.len()));
        }
        let (name, behind) = rest.split_at(leading(rest, is_token));
        let (value, behind) = until_line_end(behind.strip_prefix(b": ")?)?;
        if name.is_empty() || matches!(value, [] | [b' ', ..] | [.., b' ']) {
            return None;
        }
        fields.take(name, value).ok()?;
        rest = behind;
    }
    None
}

/// The plain bytes in front of a line end, and what is behind it.
#[inline(always)]
fn until_line_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, behind) = text.split_at(leading(text, is_plain));
    Some((line, behind.strip_prefix(b"\r\n")?))
}

/// Bytes looked at in one step.
const STEP: usize = 16;

/// How many bytes of a class the text starts with. A NUL must be of no class.
#[inline(always)]
fn leading(text: &[u8], class: impl Fn(i8x16) -> i8x16) -> usize {
    // Of the bits above the step's none is set.
    let of =
        |part: &[u8; STEP]| (!class(i8x16::new(part.map(|byte| byte as i8))).to_bitmask()).trailing_zeros();
    let mut rest = text;
    while let Some((part, behind)) = rest.split_first_chunk() {
        let len = of(part) as usize;
        if len < STEP {
            return text.len() - rest.len() + len;
        }
        rest = behind;
    }
    let mut last = [0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    text.len() - rest.len() + of(&last) as usize
}

/// From the space to the tilde.
#[inline(always)]
fn is_plain(part: i8x16) -> i8x16 {
    up_to(part, b'~').simd_gt(above(b' ', b'~'))
}

/// Letters, digits and hyphens: what RFC 9110 section 5.1 recommends for names, fewer than it allows.
#[inline(always)]
fn is_token(part: i8x16) -> i8x16 {
    let lower = part | i8x16::splat(b'a' as i8 ^ b'A' as i8);
    up_to(lower, b'z').simd_gt(above(b'a', b'z'))
        | up_to(part, b'9').simd_gt(above(b'0', b'9'))
        | part.simd_eq(i8x16::splat(b'-' as i8))
}

/// Moved such that `last` is the greatest number there is: what is above it is negative.
#[inline(always)]
fn up_to(part: i8x16, last: u8) -> i8x16 {
    part + i8x16::splat(i8::MAX - last as i8)
}

/// What all from `first` to `last` are greater than, moved like that.
#[inline(always)]
fn above(first: u8, last: u8) -> i8x16 {
    i8x16::splat(i8::MAX - (last - first) as i8 - 1)
}

#[cfg(test)]
mod tests {
    use super::super::request::{parse_head, read_head};
    use super::super::tests::heads;
    use super::super::{HeadScanner, Rejection};
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 16 * 1024;

    /// As it is read without this module.
    fn by_httparse(buf: &[u8]) -> Result<Option<(Head<'_>, usize)>, Rejection> {
        match HeadScanner::default().advance(buf, MAX)? {
            Some(len) => Ok(Some((parse_head(&buf[..len])?, len))),
            None => Ok(None),
        }
    }

    /// Whole, or from the first bytes on that are enough.
    fn in_two(buf: &[u8], first_len: usize) -> Result<Option<(Head<'_>, usize)>, Rejection> {
        let mut scanner = HeadScanner::default();
        match read_head(&mut scanner, &buf[..first_len], MAX)? {
            None => read_head(&mut scanner, buf, MAX),
            whole => Ok(whole),
        }
    }

    fn shown<T: std::fmt::Debug>(found: &T) -> String {
        format!("{found:?}")
    }

    #[test]
    fn what_clients_send_is_plain() {
        let fields = "host: pilotlight.trigger.svc:8040\r\nconnection: keep-alive\r\n\
            x-trigger-workload-controller-id: controller_8c1f\r\nx-trigger-machine-cpu: 0.5\r\n\
            accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
            accept-encoding: gzip, deflate\r\n";
        for line in ["GET /connect", "GET /warm-start", "POST /warm-start"] {
            let buf = format!("{line} HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n[\0\n");
            let (head, len) = parse(buf.as_bytes()).expect("plain");
            assert_eq!(
                (head.target, &buf.as_bytes()[len..]),
                (&line[line.find('/').unwrap()..], "[\0\n".as_bytes())
            );
            assert_eq!(shown(&Ok::<_, Rejection>(Some((head, len)))), shown(&by_httparse(buf.as_bytes())));
        }
    }

    #[test]
    fn every_byte_at_every_place() {
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
    fn as_many_fields_as_may_be() {
        for (count, is_plain) in [(HEADER_FIELDS_MAX - 1, true), (HEADER_FIELDS_MAX, false)] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(count));
            assert_eq!(parse(head.as_bytes()).is_some(), is_plain, "{count}");
            assert_eq!(by_httparse(head.as_bytes()).is_ok(), is_plain, "{count}");
        }
    }

    #[test]
    fn no_longer_than_heads_may_be() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let read = |max| read_head(&mut HeadScanner::default(), head, max).map(|found| found.is_some());
        assert_eq!(read(head.len()), Ok(true));
        assert_eq!(read(head.len() - 1).map_err(|rejection| rejection.status), Err(431));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn reads_as_httparse_does(bytes in heads(), behind in "[ -~]{0,3}", split in any::<prop::sample::Index>()) {
            let buf = [&bytes, behind.as_bytes()].concat();
            let expected = by_httparse(&buf);
            if let Some(found) = parse(&buf) {
                prop_assert_eq!(shown(&Ok::<_, Rejection>(Some(found))), shown(&expected));
            }
            prop_assert_eq!(shown(&in_two(&buf, split.index(buf.len() + 1))), shown(&expected));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET / HTTP/1.1\r\n", &bytes[..]].concat());
        }
    }
}
