//! Strings, as written and decoded (RFC 8259 section 7).

use std::borrow::Cow;

use super::block::{BLOCK, specials, specials_of_utf8};
use super::error::{Expected, JsonError};

/// The content of a string as written: UTF-8 with well-formed escapes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'b> {
    pub(super) raw: &'b [u8],
    pub(super) has_escapes: bool,
}

impl<'b> Text<'b> {
    /// A text with escapes.
    pub(crate) fn escaped(raw: &'b [u8]) -> Self {
        Text { raw, has_escapes: true }
    }

    /// The text as written.
    #[inline(always)]
    pub(crate) fn raw(self) -> &'b [u8] {
        self.raw
    }

    /// The decoded text, if it has no escapes.
    #[inline(always)]
    pub(crate) fn plain(self) -> Option<&'b [u8]> {
        (!self.has_escapes).then_some(self.raw)
    }

    /// The decoded text; `None` if it contains half of a surrogate pair. Allocates only for escapes.
    #[inline]
    pub(crate) fn decode(self) -> Option<Cow<'b, str>> {
        let raw = std::str::from_utf8(self.raw).ok()?;
        match self.has_escapes {
            false => Some(Cow::Borrowed(raw)),
            true => decode_escapes(raw).map(Cow::Owned),
        }
    }
}

/// Reads the rest of a string. Returns it, and the bytes after its closing quote. A separate function, because
/// few strings are longer than a block, have escapes or are not ASCII.
///
/// Errors contain the number of bytes left, except `Utf8`, whose position the caller has to find.
#[cold]
#[inline(never)]
pub(super) fn skip_string(inside: &[u8]) -> Result<(Text<'_>, &[u8]), JsonError> {
    let mut has_escapes = false;
    let mut is_ascii = true;
    let mut block = inside;
    let mut found = specials(block);
    loop {
        let rest = match found {
            0 => &block[BLOCK..],
            _ => match &block[found.trailing_zeros() as usize..] {
                [b'"', after @ ..] => {
                    let raw = &inside[..inside.len() - after.len() - 1];
                    return match is_ascii || std::str::from_utf8(raw).is_ok() {
                        true => Ok((Text { raw, has_escapes }, after)),
                        false => Err(JsonError::Utf8 { at: 0 }),
                    };
                }
                [b'\\', escape @ ..] => {
                    has_escapes = true;
                    after_escape(escape)?
                }
                rest @ [0x80..=0xff, ..] => {
                    is_ascii = false;
                    rest
                }
                control => return Err(JsonError::expected(Expected::NoControl, control.len())),
            },
        };
        let read = block.len() - rest.len();
        if read < BLOCK && is_ascii {
            found &= u64::MAX << read;
            continue;
        }
        block = rest;
        found = match is_ascii {
            true => specials(block),
            false => specials_of_utf8(block),
        };
    }
}

/// The bytes after an escape (RFC 8259 section 7). Does not check that surrogates form a pair.
fn after_escape(escape: &[u8]) -> Result<&[u8], JsonError> {
    match escape {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..] => Ok(after),
        [b'u', digits @ ..] => {
            let mut rest = digits;
            for _ in 0..4 {
                match rest {
                    [digit, after @ ..] if digit.is_ascii_hexdigit() => rest = after,
                    _ => return Err(JsonError::expected(Expected::HexDigits, rest.len())),
                }
            }
            Ok(rest)
        }
        _ => Err(JsonError::expected(Expected::Escape, escape.len())),
    }
}

#[cold]
fn decode_escapes(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let kind = escape.as_bytes().first()?;
        rest = &escape[1..];
        text.push(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (first, after) = code_unit(rest)?;
                rest = after;
                match first {
                    0xd800..=0xdbff => {
                        let (second, after) = code_unit(rest.strip_prefix("\\u")?)?;
                        rest = after;
                        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        char::from_u32(0x10000 + ((first - 0xd800) << 10 | low))?
                    }
                    // The second half of a pair is not a char on its own.
                    _ => char::from_u32(first)?,
                }
            }
            itself => char::from(*itself),
        });
    }
    text.push_str(rest);
    Some(text)
}

fn code_unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}
