//! What the broker needs from a dispatch's body, in one pass that copies nothing.
//!
//! The whole body must be JSON (RFC 8259); `dequeuedMessage` is forwarded as the bytes that it was.
//! Only the objects on the way to a key field are looked into; everything else is skipped by a loop
//! that validates but does not recurse, so that depth costs a bit per level and time is linear.

use std::borrow::Cow;

use self::scan::Scanner;
use super::key::{KeyRef, Number};

mod error;
mod scan;
mod text;

pub use error::{Expected, Field, JsonError};
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
    let text = std::str::from_utf8(body)
        .map_err(|error| JsonError::Utf8 { at: error.valid_up_to().try_into().unwrap_or(u32::MAX) })?;
    let mut reader = Reader {
        scan: Scanner::new(text),
        seen: 0,
        message: None,
        deployment: None,
        version: None,
        cpu: None,
        memory: None,
        run_id: None,
    };
    reader.body()?;
    reader.scan.end()?;
    reader.finish()
}

/// The body so far. One method per object on the way to a key field; none calls itself.
struct Reader<'b> {
    scan: Scanner<'b>,
    /// A bit per [`Field`] whose name has been met.
    seen: u16,
    message: Option<&'b str>,
    deployment: Option<Cow<'b, str>>,
    version: Option<Cow<'b, str>>,
    cpu: Option<Number>,
    memory: Option<Number>,
    run_id: Option<Cow<'b, str>>,
}

impl<'b> Reader<'b> {
    fn body(&mut self) -> Result<(), JsonError> {
        self.object(Field::Body, |this, name| match name {
            "dequeuedMessage" => this.message(),
            _ => this.scan.skip_value(),
        })
    }

    fn message(&mut self) -> Result<(), JsonError> {
        let start = self.scan.value_start();
        self.object(Field::Message, |this, name| match name {
            "run" => this.run(),
            "deployment" => this.deployment(),
            "backgroundWorker" => this.worker(),
            _ => this.scan.skip_value(),
        })?;
        self.message = Some(self.scan.since(start));
        Ok(())
    }

    fn deployment(&mut self) -> Result<(), JsonError> {
        self.object(Field::Deployment, |this, name| match name {
            "friendlyId" => {
                this.deployment = Some(this.string(Field::DeploymentId)?);
                Ok(())
            }
            _ => this.scan.skip_value(),
        })
    }

    fn worker(&mut self) -> Result<(), JsonError> {
        self.object(Field::Worker, |this, name| match name {
            "version" => {
                this.version = Some(this.string(Field::WorkerVersion)?);
                Ok(())
            }
            _ => this.scan.skip_value(),
        })
    }

    fn run(&mut self) -> Result<(), JsonError> {
        self.object(Field::Run, |this, name| match name {
            "machine" => this.machine(),
            "friendlyId" => this.run_id(),
            _ => this.scan.skip_value(),
        })
    }

    fn machine(&mut self) -> Result<(), JsonError> {
        self.object(Field::Machine, |this, name| match name {
            "cpu" => {
                this.cpu = Some(this.number(Field::Cpu)?);
                Ok(())
            }
            "memory" => {
                this.memory = Some(this.number(Field::Memory)?);
                Ok(())
            }
            _ => this.scan.skip_value(),
        })
    }

    /// Never required: what is no text is no id.
    fn run_id(&mut self) -> Result<(), JsonError> {
        self.once(Field::RunId)?;
        if self.scan.next_is(b'"') {
            self.run_id = self.scan.string()?.decode();
            return Ok(());
        }
        self.scan.skip_value()
    }

    /// Reads an object; `member` reads the value behind each name.
    #[inline]
    fn object(
        &mut self,
        field: Field,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.once(field)?;
        if !self.scan.next_is(b'{') {
            return Err(self.not_a(field));
        }
        let mut more = self.scan.open_object()?;
        while more {
            let name = self.scan.name()?;
            match name.plain() {
                Some(name) => member(self, name)?,
                // A name that is no Unicode text is none of those that matter.
                None => member(self, &name.decode().unwrap_or_default())?,
            }
            more = self.scan.next_member()?;
        }
        Ok(())
    }

    fn string(&mut self, field: Field) -> Result<Cow<'b, str>, JsonError> {
        self.once(field)?;
        if !self.scan.next_is(b'"') {
            return Err(self.not_a(field));
        }
        let text = self.scan.string()?;
        text.decode().ok_or(JsonError::Surrogate(field))
    }

    fn number(&mut self, field: Field) -> Result<Number, JsonError> {
        self.once(field)?;
        if !self.scan.next_is_number() {
            return Err(self.not_a(field));
        }
        let text = self.scan.number()?;
        Number::parse(text).ok_or(JsonError::Range(field))
    }

    fn once(&mut self, field: Field) -> Result<(), JsonError> {
        let bit = 1 << field as u16;
        if self.seen & bit != 0 {
            return Err(JsonError::Repeated(field));
        }
        self.seen |= bit;
        Ok(())
    }

    /// What stands there is not what the field must be: another value, or no JSON at all.
    #[cold]
    fn not_a(&mut self, field: Field) -> JsonError {
        match self.scan.skip_value() {
            Ok(()) => JsonError::Type(field),
            Err(error) => error,
        }
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
            message: message.as_bytes(),
            deployment: (self.deployment).ok_or_else(|| missing(Field::Deployment, Field::DeploymentId))?,
            version: (self.version).ok_or_else(|| missing(Field::Worker, Field::WorkerVersion))?,
            cpu: self.cpu.ok_or_else(|| missing(machine, Field::Cpu))?,
            memory: self.memory.ok_or_else(|| missing(machine, Field::Memory))?,
            run_id: self.run_id,
        })
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
