//! JSON's grammar (RFC 8259) over bytes that are known to be UTF-8.

use std::borrow::Cow;

use super::JsonError;

/// A place in a text. Every method leaves it behind what it read.
pub(super) struct Scanner<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b str) -> Self {
        Scanner { text, at: 0 }
    }

    /// Whether the next value starts with this byte.
    #[inline]
    pub(super) fn next_is(&mut self, byte: u8) -> bool {
        self.peek() == Some(byte)
    }

    /// Whether the next value is a number.
    #[inline]
    pub(super) fn next_is_number(&mut self) -> bool {
        matches!(self.peek(), Some(b'-' | b'0'..=b'9'))
    }

    /// Where the next value starts.
    #[inline]
    pub(super) fn value_start(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// What was read since `start`.
    pub(super) fn since(&self, start: usize) -> &'b str {
        &self.text[start..self.at]
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("nothing more")),
        }
    }

    /// Behind an object's `{`: whether it has a member.
    #[inline]
    pub(super) fn open_object(&mut self) -> Result<bool, JsonError> {
        self.expect(b'{', "`{`")?;
        if self.next_is(b'}') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Behind a member's value: whether the object has another member.
    #[inline]
    pub(super) fn next_member(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.expected("`,` or `}`")),
        }
    }

    /// A member's name and the colon behind it.
    #[inline]
    pub(super) fn name(&mut self) -> Result<Text<'b>, JsonError> {
        if !self.next_is(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        let name = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    /// A string.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'b>, JsonError> {
        self.expect(b'"', "`\"`")?;
        let start = self.at;
        let has_escapes = self.skip_string_rest()?;
        Ok(Text { raw: &self.text[start..self.at - 1], has_escapes })
    }

    /// A number, as it is written.
    #[inline]
    pub(super) fn number(&mut self) -> Result<&'b str, JsonError> {
        let start = self.at;
        self.skip_number()?;
        Ok(&self.text[start..self.at])
    }

    /// Any value, validated. Containers are kept track of with a bit each.
    pub(super) fn skip_value(&mut self) -> Result<(), JsonError> {
        let mut open = Containers::default();
        loop {
            let opened = match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.skip_string_rest()?;
                    false
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.skip_number()?;
                    false
                }
                Some(b'{') => {
                    let opened = self.open_object()?;
                    if opened {
                        open.push(true);
                        self.name()?;
                    }
                    opened
                }
                Some(b'[') => {
                    self.at += 1;
                    let opened = !self.next_is(b']');
                    if opened {
                        open.push(false);
                    } else {
                        self.at += 1;
                    }
                    opened
                }
                Some(b't') => self.skip_literal("true")?,
                Some(b'f') => self.skip_literal("false")?,
                Some(b'n') => self.skip_literal("null")?,
                _ => return Err(self.expected("a value")),
            };
            if opened {
                continue;
            }
            // Behind a value: close what ends here, up to the next value.
            loop {
                let Some(is_object) = open.top() else {
                    return Ok(());
                };
                if is_object {
                    if self.next_member()? {
                        self.name()?;
                        break;
                    }
                } else if self.next_element()? {
                    break;
                }
                open.pop();
            }
        }
    }

    #[inline]
    fn next_element(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.expected("`,` or `]`")),
        }
    }

    /// The next byte that is not white space; stays in front of it.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), JsonError> {
        if !self.next_is(byte) {
            return Err(self.expected(name));
        }
        self.at += 1;
        Ok(())
    }

    /// Behind a string's opening quote: up to behind its closing one. Whether it has escapes.
    #[inline]
    fn skip_string_rest(&mut self) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let mut has_escapes = false;
        loop {
            self.at = next_special(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.skip_escape()?;
                }
                _ => return Err(self.expected("no control character")),
            }
        }
    }

    /// RFC 8259 section 7. Whether surrogates pair is not looked at.
    fn skip_escape(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        match bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                        return Err(self.expected("four hex digits"));
                    }
                }
                self.at += 1;
            }
            _ => return Err(self.expected("one of \"\\/bfnrtu")),
        }
        Ok(())
    }

    #[inline]
    fn skip_number(&mut self) -> Result<(), JsonError> {
        match number_len(&self.text.as_bytes()[self.at..]) {
            Ok(len) => {
                self.at += len;
                Ok(())
            }
            Err(len) => {
                self.at += len;
                Err(self.expected("a digit"))
            }
        }
    }

    /// `false`: what it is to the caller, that no container was opened.
    #[inline]
    fn skip_literal(&mut self, literal: &'static str) -> Result<bool, JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(literal.as_bytes()) {
            self.at += literal.len();
            return Ok(false);
        }
        let same = literal.bytes().zip(rest).take_while(|(a, b)| a == *b);
        self.at += same.count();
        Err(self.expected(literal))
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> JsonError {
        match self.text.len() == self.at {
            true => JsonError::Truncated,
            false => JsonError::Syntax { at: self.at, expected },
        }
    }
}

/// The length of the number (RFC 8259 section 6) that `bytes` start with; or how many of them could
/// start one, if none is whole. `01` starts with a number of length 1.
#[inline]
pub(in crate::broker) fn number_len(bytes: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let at_least_one = |from: usize| match digits(from) {
        0 => Err(from),
        count => Ok(from + count),
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => at_least_one(at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = at_least_one(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = at_least_one(at + 1 + sign)?;
    }
    Ok(at)
}

/// The first quote, backslash or control character at or behind `at`; the length if there is none.
#[inline]
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        // The lowest high bit set in each is that of the first byte in question (a borrow can only
        // come from a byte below that was one), and bytes of UTF-8 are left out by `!word`.
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let found = (quote | backslash | control) & !word & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = |&b: &u8| b == b'"' || b == b'\\' || b < 0x20;
    at + rest.iter().position(special).unwrap_or(rest.len())
}

/// A string's inside, as it is written. Its escapes are well-formed.
#[derive(Clone, Copy)]
pub(super) struct Text<'b> {
    raw: &'b str,
    has_escapes: bool,
}

impl<'b> Text<'b> {
    /// What it means, if that is what is written.
    #[inline]
    pub(super) fn plain(self) -> Option<&'b str> {
        (!self.has_escapes).then_some(self.raw)
    }

    /// What it means; `None` if it holds half of a surrogate pair. Allocates only for escapes.
    #[inline]
    pub(super) fn decode(self) -> Option<Cow<'b, str>> {
        match self.plain() {
            Some(text) => Some(Cow::Borrowed(text)),
            None => decode_escapes(self.raw).map(Cow::Owned),
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

/// The open containers, a bit each: 1 for an object. Allocates from the 65th on.
#[derive(Default)]
struct Containers {
    depth: usize,
    /// The innermost ones; the innermost of all in the lowest bit.
    bits: u64,
    /// Those further out, 64 each.
    outer: Vec<u64>,
}

impl Containers {
    #[inline]
    fn push(&mut self, is_object: bool) {
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    #[inline]
    fn top(&self) -> Option<bool> {
        (self.depth != 0).then_some(self.bits & 1 == 1)
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }
}
