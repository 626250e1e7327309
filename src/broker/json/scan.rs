//! JSON's grammar (RFC 8259) over bytes that are known to be UTF-8.

use super::text::Text;
use super::{Expected, JsonError};

/// A place in a text. Every method leaves it behind what it read.
///
/// Methods that loop work on a copy, which lives in registers; only errors and escapes leave it.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b str) -> Self {
        Scanner { text, at: 0 }
    }

    /// Whether the next value starts with this byte.
    #[inline(always)]
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
            Some(_) => Err(self.expected(Expected::End)),
        }
    }

    /// Behind an object's `{`: whether it has a member.
    #[inline(always)]
    pub(super) fn open_object(&mut self) -> Result<bool, JsonError> {
        self.expect(b'{', Expected::Value)?;
        if self.next_is(b'}') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Behind a member's value: whether the object has another member.
    #[inline(always)]
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
            _ => Err(self.expected(Expected::NextMember)),
        }
    }

    /// A member's name and the colon behind it.
    pub(super) fn name(&mut self) -> Result<Text<'b>, JsonError> {
        let mut here = *self;
        here.expect(b'"', Expected::Name)?;
        let name = here.string_rest()?;
        here.expect(b':', Expected::Colon)?;
        *self = here;
        Ok(name)
    }

    /// The same, where the name does not matter.
    #[inline(always)]
    fn skip_name(&mut self) -> Result<(), JsonError> {
        self.expect(b'"', Expected::Name)?;
        self.skip_string_rest()?;
        self.expect(b':', Expected::Colon)
    }

    /// A string.
    pub(super) fn string(&mut self) -> Result<Text<'b>, JsonError> {
        self.expect(b'"', Expected::Value)?;
        self.string_rest()
    }

    #[inline(always)]
    fn string_rest(&mut self) -> Result<Text<'b>, JsonError> {
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
        let mut here = *self;
        let mut open = Containers::default();
        loop {
            let opened = match here.peek() {
                Some(b'"') => {
                    here.at += 1;
                    here.skip_string_rest()?;
                    false
                }
                Some(b'-' | b'0'..=b'9') => {
                    here.skip_number()?;
                    false
                }
                Some(b'{') => {
                    let opened = here.open_object()?;
                    if opened {
                        open.push(true);
                        here.skip_name()?;
                    }
                    opened
                }
                Some(b'[') => {
                    here.at += 1;
                    let opened = !here.next_is(b']');
                    if opened {
                        open.push(false);
                    } else {
                        here.at += 1;
                    }
                    opened
                }
                Some(b't') => here.skip_literal("true", Expected::True)?,
                Some(b'f') => here.skip_literal("false", Expected::False)?,
                Some(b'n') => here.skip_literal("null", Expected::Null)?,
                _ => return Err(here.expected(Expected::Value)),
            };
            if opened {
                continue;
            }
            // Behind a value: close what ends here, up to the next value.
            loop {
                let Some(is_object) = open.top() else {
                    *self = here;
                    return Ok(());
                };
                if is_object {
                    if here.next_member()? {
                        here.skip_name()?;
                        break;
                    }
                } else if here.next_element()? {
                    break;
                }
                open.pop();
            }
        }
    }

    #[inline(always)]
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
            _ => Err(self.expected(Expected::NextElement)),
        }
    }

    /// The next byte that is not white space; stays in front of it.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(byte) if *byte > b' ' => return Some(*byte),
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, what: Expected) -> Result<(), JsonError> {
        if !self.next_is(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Behind a string's opening quote: up to behind its closing one. Whether it has escapes.
    #[inline(always)]
    fn skip_string_rest(&mut self) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let end = next_special(bytes, self.at);
        if bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(false);
        }
        self.at = end;
        self.at = self.end_of_string_with_escapes()?;
        Ok(true)
    }

    /// Behind the string that `self` is in, in front of its first escape. Kept apart, for few
    /// strings have one.
    #[inline(never)]
    fn end_of_string_with_escapes(mut self) -> Result<usize, JsonError> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => return Ok(self.at + 1),
                Some(b'\\') => self.skip_escape()?,
                _ => return Err(self.expected(Expected::NoControl)),
            }
            self.at = next_special(bytes, self.at);
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
                        return Err(self.expected(Expected::HexDigits));
                    }
                }
                self.at += 1;
            }
            _ => return Err(self.expected(Expected::Escape)),
        }
        Ok(())
    }

    #[inline(always)]
    fn skip_number(&mut self) -> Result<(), JsonError> {
        match number_len(&self.text.as_bytes()[self.at..]) {
            Ok(len) => {
                self.at += len;
                Ok(())
            }
            Err(len) => {
                self.at += len;
                Err(self.expected(Expected::Digit))
            }
        }
    }

    /// `false`: what it is to the caller, that no container was opened.
    #[inline(always)]
    fn skip_literal(&mut self, literal: &str, name: Expected) -> Result<bool, JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(literal.as_bytes()) {
            self.at += literal.len();
            return Ok(false);
        }
        let same = literal.bytes().zip(rest).take_while(|(a, b)| a == *b);
        self.at += same.count();
        Err(self.expected(name))
    }

    #[cold]
    fn expected(self, expected: Expected) -> JsonError {
        match self.text.len() == self.at {
            true => JsonError::Truncated,
            false => JsonError::Syntax { at: self.at.try_into().unwrap_or(u32::MAX), expected },
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
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = |&b: &u8| b == b'"' || b == b'\\' || b < 0x20;
    at + rest.iter().position(special).unwrap_or(rest.len())
}

/// Marks quotes, backslashes and control characters with their byte's high bit. Only the lowest
/// mark is sure to be one: a borrow can reach the bytes above it.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    // `!word` leaves out the bytes above ASCII.
    (quote | backslash | control) & !word & HIGHS
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
