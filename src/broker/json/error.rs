//! What can be wrong with a dispatch's body, and the words for it.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

use crate::broker::http::Rejection;

/// What is wrong with a dispatch's body. Offsets are in bytes from its start (4 GiB, wherever it is, in
/// a body above that). Eight bytes, so that results travel in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not UTF-8 (RFC 8259 section 8.1).
    Utf8 {
        /// Where it stops being UTF-8.
        at: u32,
    },
    /// Not JSON.
    Syntax {
        /// Where.
        at: u32,
        /// What JSON has there.
        expected: Expected,
    },
    /// The body ends inside of its JSON.
    Truncated,
    /// A field is not of its type.
    Type(Field),
    /// A field is not there.
    Missing(Field),
    /// A field is there twice.
    Repeated(Field),
    /// A field's text holds half of a surrogate pair: it is no Unicode text.
    Surrogate(Field),
    /// A number that no 64-bit float holds.
    Range(Field),
}

/// What JSON's grammar (RFC 8259) has at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any value.
    Value,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
    /// A member's name, which is a string.
    Name,
    /// The colon behind a name.
    Colon,
    /// Behind a member: a comma or the end of its object.
    NextMember,
    /// Behind an element: a comma or the end of its array.
    NextElement,
    /// A digit of a number.
    Digit,
    /// One of the letters that may follow a backslash.
    Escape,
    /// The four digits behind `\u`.
    HexDigits,
    /// A control character in a string is written as an escape.
    NoControl,
    /// Nothing behind the value but white space.
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

/// The fields that the broker reads. `Type` and `Missing` of a [`JsonError`] name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The body itself.
    Body,
    /// `dequeuedMessage`
    Message,
    /// `dequeuedMessage.deployment`
    Deployment,
    /// `dequeuedMessage.deployment.friendlyId`
    DeploymentId,
    /// `dequeuedMessage.backgroundWorker`
    Worker,
    /// `dequeuedMessage.backgroundWorker.version`
    WorkerVersion,
    /// `dequeuedMessage.run`
    Run,
    /// `dequeuedMessage.run.friendlyId`
    RunId,
    /// `dequeuedMessage.run.machine`
    Machine,
    /// `dequeuedMessage.run.machine.cpu`
    Cpu,
    /// `dequeuedMessage.run.machine.memory`
    Memory,
}

impl Field {
    /// Where the field is, and what it must be.
    const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Field::Body => ("the body", "an object"),
            Field::Message => ("dequeuedMessage", "an object"),
            Field::Deployment => ("dequeuedMessage.deployment", "an object"),
            Field::DeploymentId => ("dequeuedMessage.deployment.friendlyId", "a string"),
            Field::Worker => ("dequeuedMessage.backgroundWorker", "an object"),
            Field::WorkerVersion => ("dequeuedMessage.backgroundWorker.version", "a string"),
            Field::Run => ("dequeuedMessage.run", "an object"),
            Field::RunId => ("dequeuedMessage.run.friendlyId", "a string"),
            Field::Machine => ("dequeuedMessage.run.machine", "an object"),
            Field::Cpu => ("dequeuedMessage.run.machine.cpu", "a number"),
            Field::Memory => ("dequeuedMessage.run.machine.memory", "a number"),
        }
    }
}

impl JsonError {
    /// Something else is where so many bytes are left than what JSON has there.
    #[cold]
    #[inline(never)]
    pub(super) fn expected(expected: Expected, left: usize) -> JsonError {
        match left {
            0 => JsonError::Truncated,
            left => JsonError::Syntax { at: left.try_into().unwrap_or(u32::MAX), expected },
        }
    }

    /// A scanner says how many bytes it had left; of a body of `len` bytes it is known where that is.
    pub(super) fn in_body(self, len: usize) -> JsonError {
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
            JsonError::Utf8 { at } => write!(f, "the body is not UTF-8 at byte {at}"),
            JsonError::Syntax { at, expected } => {
                let expected = expected.describe();
                write!(f, "the body is not JSON at byte {at}: expected {expected}")
            }
            JsonError::Truncated => write!(f, "the body is not JSON: it ends too soon"),
            JsonError::Type(field) => {
                let (path, kind) = field.describe();
                write!(f, "{path} must be {kind}")
            }
            JsonError::Missing(field) => write!(f, "{} is missing", field.describe().0),
            JsonError::Repeated(field) => write!(f, "{} is there twice", field.describe().0),
            JsonError::Surrogate(field) => {
                let path = field.describe().0;
                write!(f, "{path} holds half of a surrogate pair")
            }
            JsonError::Range(field) => write!(f, "{} is out of range", field.describe().0),
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

impl From<JsonError> for Rejection {
    #[cold]
    fn from(error: JsonError) -> Rejection {
        Rejection { error: Cow::Owned(error.to_string()), ..Rejection::new(400, "") }
    }
}
