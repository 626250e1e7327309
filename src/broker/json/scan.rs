//! JSON's grammar (RFC 8259) over bytes, wherever UTF-8 may not matter: outside of strings there is
//! only ASCII, and a string ends at a quote.

use super::plain::{behind_plain_string, skip_plain};
use super::text::Text;
use super::{Expected, JsonError};

/// A place in a text: what is not read yet. Every method leaves it behind what it read.
///
/// Small enough to live in registers: what is inlined changes it in place, what is not takes it and
/// gives it back. Errors name the place by what is left there; see [`JsonError::in_body`].
#[derive(Clone, Copy)]
pub(super) struct Scanner<'b>(&'b [u8]);

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b [u8]) -> Self {
        Scanner(text)
    }

    /// Whether the next value starts with this byte.
    #[inline(always)]
    pub(super) fn next_is(&mut self, byte: u8) -> bool {
        // White space is skipped only where it is in the way.
        self.0.first() == Some(&byte) || self.peek() == Some(byte)
    }

    /// Whether the next value is a number.
    #[inline(always)]
    pub(super) fn next_is_number(&mut self) -> bool {
        matches!(self.peek(), Some(b'-' | b'0'..=b'9'))
    }

    /// Where the next value starts.
    #[inline(always)]
    pub(super) fn value_start(&mut self) -> Self {
        self.peek();
        *self
    }

    /// What was read since `start`.
    #[inline(always)]
    pub(super) fn since(self, start: Self) -> &'b [u8] {
        &start.0[..start.0.len() - self.0.len()]
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected(Expected::End)),
        }
    }

    /// A member's name and the colon behind it.
    #[inline(always)]
    pub(super) fn name(&mut self) -> Result<Text<'b>, JsonError> {
        self.expect(b'"', Expected::Name)?;
        let name = self.string_rest()?;
        self.expect(b':', Expected::Colon)?;
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
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Text<'b>, JsonError> {
        self.expect(b'"', Expected::Value)?;
        self.string_rest()
    }

    /// Behind a string's opening quote: up to behind its closing one.
    #[inline(always)]
    fn string_rest(&mut self) -> Result<Text<'b>, JsonError> {
        let start = *self;
        let has_escapes = self.skip_string_rest()?;
        let raw = &start.0[..start.0.len() - self.0.len() - 1];
        Ok(Text { raw, has_escapes })
    }

    /// The same; whether it has escapes.
    #[inline(always)]
    fn skip_string_rest(&mut self) -> Result<bool, JsonError> {
        if let Some(behind) = behind_plain_string(self.0) {
            self.0 = behind;
            return Ok(false);
        }
        *self = self.behind_escaped_string()?;
        Ok(true)
    }

    /// The same for a string with escapes; or what is wrong with it. Kept apart, for few have one.
    #[cold]
    #[inline(never)]
    fn behind_escaped_string(mut self) -> Result<Self, JsonError> {
        loop {
            self.0 = skip_plain(self.0);
            match self.0 {
                [b'"', behind @ ..] => return Ok(Scanner(behind)),
                [b'\\', escape @ ..] => {
                    self.0 = escape;
                    self.skip_escape()?;
                }
                _ => return Err(self.expected(Expected::NoControl)),
            }
        }
    }

    /// Behind a backslash (RFC 8259 section 7). Whether surrogates pair is not looked at.
    fn skip_escape(&mut self) -> Result<(), JsonError> {
        match self.0 {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind @ ..] => self.0 = behind,
            [b'u', behind @ ..] => {
                self.0 = behind;
                for _ in 0..4 {
                    match self.0 {
                        [digit, behind @ ..] if digit.is_ascii_hexdigit() => self.0 = behind,
                        _ => return Err(self.expected(Expected::HexDigits)),
                    }
                }
            }
            _ => return Err(self.expected(Expected::Escape)),
        }
        Ok(())
    }

    /// A number, as it is written.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<&'b [u8], JsonError> {
        let (len, is_whole) = match number_len(self.0) {
            Ok(len) => (len, true),
            Err(len) => (len, false),
        };
        let (number, behind) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = behind;
        match is_whole {
            true => Ok(number),
            false => Err(self.expected(Expected::Digit)),
        }
    }

    /// Any value, validated.
    #[inline(always)]
    pub(super) fn skip_value(&mut self) -> Result<(), JsonError> {
        if self.skip_if(b'"') {
            self.skip_string_rest()?;
        } else {
            *self = self.behind_other_value()?;
        }
        Ok(())
    }

    /// Behind a value that is no string. Containers are kept track of with a bit each.
    #[inline(never)]
    fn behind_other_value(mut self) -> Result<Self, JsonError> {
        let mut open = Containers::default();
        loop {
            // In front of a value.
            if self.skip_if(b'"') {
                self.skip_string_rest()?;
            } else if self.skip_if(b'{') {
                open.push(true);
                if !self.next_is(b'}') {
                    self.skip_name()?;
                    continue;
                }
            } else if self.skip_if(b'[') {
                open.push(false);
                if !self.next_is(b']') {
                    continue;
                }
            } else if self.next_is_number() {
                self.number()?;
            } else {
                self = self.behind_literal()?;
            }
            // Behind a value, or in front of the end of an empty container: up to the next value.
            loop {
                if open.is_empty() {
                    return Ok(self);
                }
                if self.skip_if(b',') {
                    break;
                }
                match open.innermost_is_object() {
                    true => self.expect(b'}', Expected::NextMember)?,
                    false => self.expect(b']', Expected::NextElement)?,
                }
                open.pop();
            }
            if open.innermost_is_object() {
                self.skip_name()?;
            }
        }
    }

    #[inline(never)]
    fn behind_literal(mut self) -> Result<Self, JsonError> {
        let (literal, name): (&[u8], _) = match self.0.first() {
            Some(b't') => (b"true", Expected::True),
            Some(b'f') => (b"false", Expected::False),
            Some(b'n') => (b"null", Expected::Null),
            _ => return Err(self.expected(Expected::Value)),
        };
        for byte in literal {
            match self.0 {
                [first, behind @ ..] if first == byte => self.0 = behind,
                _ => return Err(self.expected(name)),
            }
        }
        Ok(self)
    }

    /// The next byte that is not white space; stays in front of it.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        if self.0.first().is_none_or(|byte| *byte <= b' ') {
            self.0 = behind_space(self.0);
        }
        self.0.first().copied()
    }

    /// Skips the byte if it is next.
    #[inline(always)]
    pub(super) fn skip_if(&mut self, byte: u8) -> bool {
        match self.0 {
            [first, behind @ ..] if *first == byte => self.0 = behind,
            [first, ..] if *first > b' ' => return false,
            space => match behind_space(space) {
                [first, behind @ ..] if *first == byte => self.0 = behind,
                _ => return false,
            },
        }
        true
    }

    /// Skips the byte, which must be next.
    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8, what: Expected) -> Result<(), JsonError> {
        match self.skip_if(byte) {
            true => Ok(()),
            false => Err(self.next_expected(what)),
        }
    }

    /// Something else is here than what JSON has here.
    #[cold]
    #[inline(never)]
    fn expected(self, expected: Expected) -> JsonError {
        match self.0.len() {
            0 => JsonError::Truncated,
            left => JsonError::Syntax { at: left.try_into().unwrap_or(u32::MAX), expected },
        }
    }

    /// The same behind white space.
    #[cold]
    #[inline(never)]
    fn next_expected(self, expected: Expected) -> JsonError {
        Scanner(behind_space(self.0)).expected(expected)
    }
}

/// Kept apart, for between machines there is none.
#[cold]
#[inline(never)]
fn behind_space(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = bytes {
        bytes = behind;
    }
    bytes
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

/// The open containers, a bit each, the innermost lowest: 1 for an object. Allocates from the 64th on.
struct Containers {
    /// Above the highest of them stands a 1.
    bits: u64,
    /// Those further out, 63 each.
    outer: Vec<u64>,
}

impl Default for Containers {
    fn default() -> Self {
        Containers { bits: 1, outer: Vec::new() }
    }
}

impl Containers {
    #[inline(always)]
    fn push(&mut self, is_object: bool) {
        if self.bits >> 63 == 1 {
            self.outer.push(self.bits);
            self.bits = 1;
        }
        self.bits = self.bits << 1 | u64::from(is_object);
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.bits == 1
    }

    #[inline(always)]
    fn innermost_is_object(&self) -> bool {
        self.bits & 1 == 1
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.bits >>= 1;
        if self.bits == 1 {
            self.bits = self.outer.pop().unwrap_or(1);
        }
    }
}
