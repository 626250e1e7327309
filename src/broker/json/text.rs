//! Strings: as they are written, and what they mean (RFC 8259 section 7).

use std::borrow::Cow;

/// A string's inside, as it is written: UTF-8 with well-formed escapes, once the whole body is known to
/// be UTF-8.
#[derive(Clone, Copy)]
pub(super) struct Text<'b> {
    pub(super) raw: &'b [u8],
    pub(super) has_escapes: bool,
}

impl<'b> Text<'b> {
    /// What it means, if that is what is written.
    #[inline(always)]
    pub(super) fn plain(self) -> Option<&'b [u8]> {
        (!self.has_escapes).then_some(self.raw)
    }

    /// What it means; `None` if it holds half of a surrogate pair. Allocates only for escapes.
    #[inline]
    pub(super) fn decode(self) -> Option<Cow<'b, str>> {
        let raw = std::str::from_utf8(self.raw).ok()?;
        match self.has_escapes {
            false => Some(Cow::Borrowed(raw)),
            true => decode_escapes(raw).map(Cow::Owned),
        }
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
                let (first, behind) = code_unit(rest)?;
                rest = behind;
                match first {
                    0xd800..=0xdbff => {
                        let (second, behind) = code_unit(rest.strip_prefix("\\u")?)?;
                        rest = behind;
                        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        char::from_u32(0x10000 + ((first - 0xd800) << 10 | low))?
                    }
                    // The other half of a pair is no char.
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
