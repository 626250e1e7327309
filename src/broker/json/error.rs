//! Syntax errors.

use std::fmt;
use std::str::Utf8Error;

/// Why a text is not JSON. Offsets are in bytes from its start, at most `u32::MAX`. Eight bytes, so that results
/// fit in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not UTF-8 from byte `at` on (RFC 8259 section 8.1).
    Utf8 { at: u32 },
    /// The grammar requires something else at byte `at`.
    Syntax { at: u32, expected: Expected },
    /// The text ends within its JSON value.
    Truncated,
}

/// What JSON's grammar (RFC 8259) requires at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Value,
    True,
    False,
    Null,
    /// A member's name, which is a string.
    Name,
    /// The colon after a name.
    Colon,
    /// After a member: a comma or the end of its object.
    NextMember,
    /// After an element: a comma or the end of its array.
    NextElement,
    Digit,
    /// One of the letters that may follow a backslash.
    Escape,
    /// The four digits after `\u`.
    HexDigits,
    /// A control character in a string must be escaped.
    NoControl,
    /// Only white space may follow the value.
    End,
}

impl Expected {
    const fn describe(self) -> &'static str {
        match self {
            Expected::Value => "a value",
            Expected::True => "true",
            Expected::False => "false",
            Expected::Null => "null",
            Expected::Name => "a name in quotes",
            Expected::Colon => "`:`",
            Expected::NextMember => "`,` or `}`",
            Expected::NextElement => "`,` or `]`",
            Expected::Digit => "a digit",
            Expected::Escape => r#"one of `"\/bfnrtu`"#,
            Expected::HexDigits => "four hex digits",
            Expected::NoControl => "no control character",
            Expected::End => "nothing more",
        }
    }
}

impl JsonError {
    /// The error for a position with `left` bytes left, where `expected` is missing. [`JsonError::in_text`] turns
    /// the position into an offset.
    #[cold]
    #[inline(never)]
    pub(super) fn expected(expected: Expected, left: usize) -> JsonError {
        match left {
            0 => JsonError::Truncated,
            left => JsonError::Syntax { at: left.try_into().unwrap_or(u32::MAX), expected },
        }
    }

    /// Turns the number of bytes left into the offset in a text of `len` bytes.
    pub(crate) fn in_text(self, len: usize) -> JsonError {
        match self {
            JsonError::Syntax { at: left, expected } => {
                let at = u32::try_from(len).map_or(u32::MAX, |len| len - left);
                JsonError::Syntax { at, expected }
            }
            other => other,
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            JsonError::Utf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            JsonError::Syntax { at, expected } => {
                write!(f, "not JSON at byte {at}: expected {}", expected.describe())
            }
            JsonError::Truncated => write!(f, "not JSON: it ends too soon"),
        }
    }
}

impl std::error::Error for JsonError {}

impl From<Utf8Error> for JsonError {
    #[cold]
    fn from(error: Utf8Error) -> JsonError {
        JsonError::Utf8 { at: error.valid_up_to().try_into().unwrap_or(u32::MAX) }
    }
}
