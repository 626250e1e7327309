//! What the broker needs from a dispatch's body, in one pass that copies nothing.
//!
//! The whole body must be JSON (RFC 8259); `dequeuedMessage` is forwarded as the bytes that it was.
//! Only the objects on the way to a key field are looked into; everything else is skipped by a loop
//! that validates but does not recurse, so that depth costs a bit per level and time is linear.

use std::borrow::Cow;

use self::scan::Scanner;
use self::text::Text;
use super::key::{KeyRef, Number};

mod error;
mod members;
mod plain;
mod scan;
mod text;

pub use error::{Expected, Field, JsonError};
pub use members::{Value, each_member};
pub(super) use scan::number_len;

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
    let all_bits = body.iter().fold(0, |all, byte| all | byte);
    if !all_bits.is_ascii() {
        std::str::from_utf8(body)
            .map_err(|error| JsonError::Utf8 { at: error.valid_up_to().try_into().unwrap_or(u32::MAX) })?;
    }
    let mut reader = Reader::default();
    reader.body(Scanner::new(body)).map_err(|error| error.in_body(body.len()))?;
    reader.finish()
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
}

impl<'b> Reader<'b> {
    /// Goes through the objects on the way to the fields, into one and back to the one around it.
    fn body(&mut self, mut scan: Scanner<'b>) -> Result<(), JsonError> {
        let mut object = Field::Body;
        let mut message_start = scan;
        // Or more of them, behind one.
        let mut has_members = self.open(object, &mut scan)?;
        loop {
            while has_members {
                let name = scan.name()?;
                let field = match name.plain() {
                    Some(name) => object.member(name),
                    None => object.escaped_member(name.raw),
                };
                match field {
                    None => scan.skip_value()?,
                    Some(Field::RunId) => scan = self.run_id(scan)?,
                    Some(field @ (Field::Cpu | Field::Memory)) => scan = self.number(field, scan)?,
                    Some(field @ (Field::DeploymentId | Field::WorkerVersion)) => {
                        scan = self.string(field, scan)?;
                    }
                    Some(inner) => {
                        let start = scan.value_start();
                        if inner == Field::Message {
                            message_start = start;
                        }
                        has_members = self.open(inner, &mut scan)?;
                        object = inner;
                        continue;
                    }
                }
                has_members = scan.skip_if(b',');
            }
            scan.expect(b'}', Expected::NextMember)?;
            if object == Field::Message {
                self.message = Some(scan.since(message_start));
            }
            let Some(around) = object.container() else { return scan.end() };
            object = around;
            has_members = scan.skip_if(b',');
        }
    }

    /// Into an object: whether it has members.
    #[inline(always)]
    fn open(&mut self, field: Field, scan: &mut Scanner<'b>) -> Result<bool, JsonError> {
        self.once(field)?;
        match scan.skip_if(b'{') {
            true => Ok(!scan.next_is(b'}')),
            false => Err(not_a(field, *scan)),
        }
    }

    /// Never required: what is no text is no id.
    #[inline(never)]
    fn run_id(&mut self, mut scan: Scanner<'b>) -> Result<Scanner<'b>, JsonError> {
        self.once(Field::RunId)?;
        match scan.next_is(b'"') {
            true => self.run_id = scan.string()?.decode(),
            false => scan.skip_value()?,
        }
        Ok(scan)
    }

    #[inline(never)]
    fn string(&mut self, field: Field, mut scan: Scanner<'b>) -> Result<Scanner<'b>, JsonError> {
        self.once(field)?;
        if !scan.next_is(b'"') {
            return Err(not_a(field, scan));
        }
        let text = scan.string()?.decode();
        let place = match field {
            Field::DeploymentId => &mut self.deployment,
            _ => &mut self.version,
        };
        *place = Some(text.ok_or(JsonError::Surrogate(field))?);
        Ok(scan)
    }

    #[inline(never)]
    fn number(&mut self, field: Field, mut scan: Scanner<'b>) -> Result<Scanner<'b>, JsonError> {
        self.once(field)?;
        if !scan.next_is_number() {
            return Err(not_a(field, scan));
        }
        let number = Number::parse(scan.number()?);
        let place = match field {
            Field::Cpu => &mut self.cpu,
            _ => &mut self.memory,
        };
        *place = Some(number.ok_or(JsonError::Range(field))?);
        Ok(scan)
    }

    fn once(&mut self, field: Field) -> Result<(), JsonError> {
        let bit = 1 << field as u16;
        if self.seen & bit != 0 {
            return Err(JsonError::Repeated(field));
        }
        self.seen |= bit;
        Ok(())
    }

    fn finish(self) -> Result<Dispatch<'b>, JsonError> {
        let seen = self.seen;
        let missing = |container: Field, field: Field| {
            let has_container = seen & (1 << container as u16) != 0;
            JsonError::Missing(if has_container { field } else { container })
        };
        let machine = match seen & (1 << Field::Run as u16) {
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
mod naive;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
