//! What the broker needs from a dispatch's body, in one pass that copies nothing.
//!
//! The whole body must be JSON (RFC 8259); `dequeuedMessage` is forwarded as the bytes that it was.
//! Only the objects on the way to a key field are looked into; everything else is skipped by a loop
//! that validates but does not recurse, so that depth costs a bit per level and time is linear.

use std::borrow::Cow;

use self::scan::Scanner;
use self::text::Text;
use super::key::{KeyRef, Number};

mod block;
mod containers;
mod error;
mod members;
mod number;
mod scan;
mod skip;
mod text;

pub use error::{Expected, Field, JsonError};
pub use members::{Value, each_member};
pub(super) use number::number_len;

/// A dispatch's body, borrowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch<'b> {
    /// The value of `dequeuedMessage`, byte for byte.
    pub message: &'b [u8],
    /// `dequeuedMessage.deployment.friendlyId`. Borrowed unless written with escapes.
    pub deployment: Cow<'b, str>,
    /// `dequeuedMessage.backgroundWorker.version`. Borrowed unless written with escapes.
    pub version: Cow<'b, str>,
    /// `dequeuedMessage.run.machine.cpu`, vCPUs.
    pub cpu: Number,
    /// `dequeuedMessage.run.machine.memory`, GB.
    pub memory: Number,
    /// `dequeuedMessage.run.friendlyId`, for logs: `None` where it is missing or no string.
    pub run_id: Option<Cow<'b, str>>,
}

impl Dispatch<'_> {
    /// The runner that the run needs.
    pub fn key(&self) -> KeyRef<'_> {
        KeyRef { deployment: &self.deployment, version: &self.version, cpu: self.cpu, memory: self.memory }
    }
}

/// Reads a dispatch's body.
///
/// Names are compared by what they mean, escapes decoded. Names that do not matter here may repeat;
/// numbers and escapes outside of the key fields need only be well-formed (`1e999`, `"\ud800"`).
///
/// # Errors
/// The first fault found: not JSON, a key field that is missing or not what it must be, or a name
/// on the way to one that is there twice (readers differ in which of the two they take).
pub fn parse_dispatch(body: &[u8]) -> Result<Dispatch<'_>, JsonError> {
    let mut reader = Reader::default();
    match reader.body(body) {
        Ok(()) => reader.finish(),
        Err(error) => Err(first_fault(body, error.in_body(body.len()))),
    }
}

/// Wherever else a fault is found, one in UTF-8 comes first. Only strings may have one.
#[cold]
fn first_fault(body: &[u8], error: JsonError) -> JsonError {
    std::str::from_utf8(body).err().map_or(error, JsonError::from)
}

/// The body so far.
#[derive(Default)]
struct Reader<'b> {
    /// A bit per [`Field`] whose name has been met.
    seen: u16,
    message: Option<&'b [u8]>,
    deployment: Option<Cow<'b, str>>,
    version: Option<Cow<'b, str>>,
    cpu: Option<Number>,
    memory: Option<Number>,
    run_id: Option<Cow<'b, str>>,
    /// Of a container that is skipped: see [`Containers`](containers::Containers).
    outer: Vec<u64>,
}

impl<'b> Reader<'b> {
    /// Goes through the objects on the way to the fields, into one and back to the one around it.
    #[inline(never)]
    fn body(&mut self, body: &'b [u8]) -> Result<(), JsonError> {
        let mut scan = Scanner::new(body);
        let mut object = Field::Body;
        let mut name_lens = object.name_lens();
        // Not in `self`, which is in memory.
        let mut seen = 0;
        let mut message_left = 0;
        if !scan.skip_if(b'{') {
            return Err(not_a(object, scan));
        }
        if !scan.has_members()? {
            scan.advance(1);
            return scan.end();
        }
        'members: loop {
            let (name, next) = scan.name()?;
            let field = match name.plain() {
                Some(name) if name_lens.wrapping_shr(name.len() as u32) & 1 == 0 => None,
                Some(name) => object.member(name),
                None => object.escaped_member(name.raw),
            };
            match field {
                None if next == b'"' => {
                    let is_name_next = scan.skip_joined_string(b',')?;
                    if is_name_next {
                        continue 'members;
                    }
                }
                None => scan.skip_other_value(next, &mut self.outer)?,
                Some(field) => {
                    if seen & field.bit() != 0 {
                        return Err(JsonError::Repeated(field));
                    }
                    seen |= field.bit();
                    match next {
                        b'{' if field.is_object() => {
                            if field == Field::Message {
                                message_left = scan.left();
                            }
                            scan.advance(1);
                            object = field;
                            name_lens = object.name_lens();
                            if scan.has_members()? {
                                continue 'members;
                            }
                        }
                        b'"' => {
                            let text = scan.string()?;
                            self.text(field, text)?;
                        }
                        b'-' | b'0'..=b'9' => {
                            let number = scan.number()?;
                            self.number(field, number)?;
                        }
                        _ => {
                            scan.skip_rare_value()?;
                            self.other(field)?;
                        }
                    }
                }
            }
            // Behind a value, or in front of the end of an empty object: up to the next name. No single
            // `while`: what only ends of objects need would be computed for every member.
            if !scan.skip_if(b',') {
                loop {
                    scan.expect(b'}', Expected::NextMember)?;
                    if object == Field::Message {
                        self.message = Some(&body[body.len() - message_left..body.len() - scan.left()]);
                    }
                    let Some(around) = object.container() else {
                        self.seen = seen;
                        return scan.end();
                    };
                    object = around;
                    name_lens = object.name_lens();
                    if scan.skip_if(b',') {
                        break;
                    }
                }
            }
            scan.expect_name()?;
        }
    }

    #[inline(never)]
    fn text(&mut self, field: Field, text: Text<'b>) -> Result<(), JsonError> {
        match field {
            // Never required: what is no text is no id.
            Field::RunId => self.run_id = text.decode(),
            Field::DeploymentId => self.deployment = Some(text.decode().ok_or(JsonError::Surrogate(field))?),
            Field::WorkerVersion => self.version = Some(text.decode().ok_or(JsonError::Surrogate(field))?),
            _ => return self.other(field),
        }
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self, field: Field, number: &[u8]) -> Result<(), JsonError> {
        let place = match field {
            Field::Cpu => &mut self.cpu,
            Field::Memory => &mut self.memory,
            _ => return self.other(field),
        };
        *place = Some(Number::parse(number).ok_or(JsonError::Range(field))?);
        Ok(())
    }

    /// A value that is not of the field's type.
    #[cold]
    fn other(&self, field: Field) -> Result<(), JsonError> {
        match field {
            Field::RunId => Ok(()),
            _ => Err(JsonError::Type(field)),
        }
    }

    fn finish(self) -> Result<Dispatch<'b>, JsonError> {
        let seen = self.seen;
        let missing = |container: Field, field: Field| {
            let has_container = seen & container.bit() != 0;
            JsonError::Missing(if has_container { field } else { container })
        };
        let machine = match seen & Field::Run.bit() {
            0 => Field::Run,
            _ => Field::Machine,
        };
        let message = self.message.ok_or(JsonError::Missing(Field::Message))?;
        Ok(Dispatch {
            message,
            deployment: (self.deployment).ok_or_else(|| missing(Field::Deployment, Field::DeploymentId))?,
            version: (self.version).ok_or_else(|| missing(Field::Worker, Field::WorkerVersion))?,
            cpu: self.cpu.ok_or_else(|| missing(machine, Field::Cpu))?,
            memory: self.memory.ok_or_else(|| missing(machine, Field::Memory))?,
            run_id: self.run_id,
        })
    }
}

/// What stands there is not what the field must be: another value, or no JSON at all.
#[cold]
#[inline(never)]
fn not_a(field: Field, mut scan: Scanner<'_>) -> JsonError {
    match scan.skip_value() {
        Ok(()) => JsonError::Type(field),
        Err(error) => error,
    }
}

impl Field {
    /// The field that a member of this object is.
    #[inline(always)]
    fn member(self, name: &[u8]) -> Option<Field> {
        let named = |known: &[u8], field| (name == known).then_some(field);
        match self {
            Field::Body => named(b"dequeuedMessage", Field::Message),
            Field::Message => match name.len() {
                3 => named(b"run", Field::Run),
                10 => named(b"deployment", Field::Deployment),
                16 => named(b"backgroundWorker", Field::Worker),
                _ => None,
            },
            Field::Deployment => named(b"friendlyId", Field::DeploymentId),
            Field::Worker => named(b"version", Field::WorkerVersion),
            Field::Run => match name.len() {
                7 => named(b"machine", Field::Machine),
                10 => named(b"friendlyId", Field::RunId),
                _ => None,
            },
            Field::Machine => match name.len() {
                3 => named(b"cpu", Field::Cpu),
                6 => named(b"memory", Field::Memory),
                _ => None,
            },
            _ => None,
        }
    }

    /// A bit per length that a field's name has in this object; what else the names are is looked at
    /// only then. (Modulo 64: a longer name may be looked at for nothing.)
    #[inline(always)]
    fn name_lens(self) -> u64 {
        match self {
            Field::Body => 1 << 15,
            Field::Message => 1 << 3 | 1 << 10 | 1 << 16,
            Field::Deployment => 1 << 10,
            Field::Worker => 1 << 7,
            Field::Run => 1 << 7 | 1 << 10,
            Field::Machine => 1 << 3 | 1 << 6,
            _ => 0,
        }
    }

    #[inline(always)]
    fn is_object(self) -> bool {
        self.name_lens() != 0
    }

    /// The field's place in [`Reader::seen`].
    #[inline(always)]
    fn bit(self) -> u16 {
        1 << self as u16
    }

    /// A name that is no Unicode text is none of those that matter.
    #[cold]
    #[inline(never)]
    fn escaped_member(self, raw: &[u8]) -> Option<Field> {
        let name = Text { raw, has_escapes: true }.decode()?;
        self.member(name.as_bytes())
    }

    /// The object that this object is in; `None` for the body.
    fn container(self) -> Option<Field> {
        match self {
            Field::Message => Some(Field::Body),
            Field::Machine => Some(Field::Run),
            Field::Deployment | Field::Worker | Field::Run => Some(Field::Message),
            _ => None,
        }
    }
}

#[cfg(test)]
mod borders;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
