//! The dispatch's body: finds its key and its message in one pass that copies nothing.
//!
//! The whole body must be JSON (RFC 8259). `dequeuedMessage` is forwarded byte for byte. The reader enters
//! only the objects that contain a field of the key. It skips all other values with a loop that validates
//! without recursion, so depth costs one bit per level and time is linear.

mod error;
mod field;

pub use error::DispatchError;
pub use field::Field;

use crate::broker::json::{Expected, JsonError, Number, Scanner, Text};
use crate::broker::pools::KeyRef;
use std::borrow::Cow;

/// A dispatch's body, borrowed from the bytes received.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatchRequest<'b> {
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
    /// `dequeuedMessage.run.friendlyId`, for logs. `None` if it is missing or not a string.
    pub run_id: Option<Cow<'b, str>>,
}

impl DispatchRequest<'_> {
    /// The key of the runners that can execute the run.
    pub fn key(&self) -> KeyRef<'_> {
        KeyRef { deployment: &self.deployment, version: &self.version, cpu: self.cpu, memory: self.memory }
    }
}

/// Reads a dispatch's body.
///
/// Names are compared with their escapes decoded. Other names may repeat. Numbers and escapes outside the
/// key fields need only be well-formed (`1e999`, `"\ud800"`).
///
/// # Errors
/// The first fault found:
/// - The body is not JSON.
/// - A key field is missing or of another type.
/// - A field, or an object that contains one, occurs twice. JSON readers differ in which one they take.
pub fn parse_dispatch(body: &[u8]) -> Result<DispatchRequest<'_>, DispatchError> {
    let mut reader = Reader::default();
    match reader.body(body) {
        Ok(()) => reader.finish(),
        Err(error) => Err(first_fault(body, error)),
    }
}

/// A fault in UTF-8 takes precedence over all others. Only strings can have one.
#[cold]
fn first_fault(body: &[u8], error: DispatchError) -> DispatchError {
    if let Err(error) = std::str::from_utf8(body) {
        return JsonError::from(error).into();
    }
    match error {
        DispatchError::Json(error) => error.in_text(body.len()).into(),
        other => other,
    }
}

/// The body so far.
#[derive(Default)]
struct Reader<'b> {
    /// A bit for each [`Field`] found.
    seen: u16,
    message: Option<&'b [u8]>,
    deployment: Option<Cow<'b, str>>,
    version: Option<Cow<'b, str>>,
    cpu: Option<Number>,
    memory: Option<Number>,
    run_id: Option<Cow<'b, str>>,
    /// Scratch space for [`Scanner::skip_other_value`].
    outer: Vec<u64>,
}

impl<'b> Reader<'b> {
    /// Walks the objects that contain fields, into each and back to the one around it.
    #[inline(never)]
    fn body(&mut self, body: &'b [u8]) -> Result<(), DispatchError> {
        let mut scan = Scanner::new(body);
        let mut object = Field::Body;
        let mut name_lens = object.name_lens();
        // Local variables stay in registers; `self` is in memory.
        let mut seen = 0;
        let mut message_left = 0;
        if !scan.skip_if(b'{') {
            return Err(wrong_type(object, scan));
        }
        if !scan.has_members()? {
            scan.advance(1);
            return Ok(scan.end()?);
        }
        'members: loop {
            let (name, next) = scan.name()?;
            let field = match name.plain() {
                Some(name) if name_lens.wrapping_shr(name.len() as u32) & 1 == 0 => None,
                Some(name) => object.member(name),
                None => escaped_member(object, name.raw()),
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
                        return Err(DispatchError::Repeated(field));
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
            // After a value, or before the end of an empty object: proceed to the next name. A single
            // `while` would compute for every member what only the ends of objects need.
            if !scan.skip_if(b',') {
                loop {
                    scan.expect(b'}', Expected::NextMember)?;
                    if object == Field::Message {
                        self.message = Some(&body[body.len() - message_left..body.len() - scan.left()]);
                    }
                    let Some(around) = object.container() else {
                        self.seen = seen;
                        return Ok(scan.end()?);
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
    fn text(&mut self, field: Field, text: Text<'b>) -> Result<(), DispatchError> {
        match field {
            // Optional, so text that is not Unicode counts as missing.
            Field::RunId => self.run_id = text.decode(),
            Field::DeploymentId => {
                self.deployment = Some(text.decode().ok_or(DispatchError::Surrogate(field))?)
            }
            Field::WorkerVersion => {
                self.version = Some(text.decode().ok_or(DispatchError::Surrogate(field))?)
            }
            _ => return self.other(field),
        }
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self, field: Field, number: &[u8]) -> Result<(), DispatchError> {
        let place = match field {
            Field::Cpu => &mut self.cpu,
            Field::Memory => &mut self.memory,
            _ => return self.other(field),
        };
        *place = Some(Number::parse(number).ok_or(DispatchError::Range(field))?);
        Ok(())
    }

    /// Handles a value of a type other than the field's.
    #[cold]
    fn other(&self, field: Field) -> Result<(), DispatchError> {
        match field {
            Field::RunId => Ok(()),
            _ => Err(DispatchError::Type(field)),
        }
    }

    fn finish(self) -> Result<DispatchRequest<'b>, DispatchError> {
        let seen = self.seen;
        let missing = |container: Field, field: Field| {
            let has_container = seen & container.bit() != 0;
            DispatchError::Missing(if has_container { field } else { container })
        };
        let machine = match seen & Field::Run.bit() {
            0 => Field::Run,
            _ => Field::Machine,
        };
        let message = self.message.ok_or(DispatchError::Missing(Field::Message))?;
        Ok(DispatchRequest {
            message,
            deployment: (self.deployment).ok_or_else(|| missing(Field::Deployment, Field::DeploymentId))?,
            version: (self.version).ok_or_else(|| missing(Field::Worker, Field::WorkerVersion))?,
            cpu: self.cpu.ok_or_else(|| missing(machine, Field::Cpu))?,
            memory: self.memory.ok_or_else(|| missing(machine, Field::Memory))?,
            run_id: self.run_id,
        })
    }
}

/// The error for `field`, which has another type or is not JSON at all.
#[cold]
#[inline(never)]
fn wrong_type(field: Field, mut scan: Scanner<'_>) -> DispatchError {
    match scan.skip_value() {
        Ok(()) => DispatchError::Type(field),
        Err(error) => error.into(),
    }
}

/// The field for a member of `object` whose name has escapes. A name that is not Unicode matches no field.
#[cold]
#[inline(never)]
fn escaped_member(object: Field, raw: &[u8]) -> Option<Field> {
    let name = Text::escaped(raw).decode()?;
    object.member(name.as_bytes())
}

#[cfg(test)]
mod tests;
