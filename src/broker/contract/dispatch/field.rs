//! The fields of a dispatch's body: their names, places and types.

/// A field that the broker reads.
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
    /// The field's path and its type, for error messages.
    pub(super) const fn describe(self) -> (&'static str, &'static str) {
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

    /// The field for this object's member `name`.
    #[inline(always)]
    pub(super) fn member(self, name: &[u8]) -> Option<Field> {
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

    /// A bit for each length of a field's name in this object, modulo 64: a first filter before
    /// [`Field::member`] compares the name.
    #[inline(always)]
    pub(super) fn name_lens(self) -> u64 {
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
    pub(super) fn is_object(self) -> bool {
        self.name_lens() != 0
    }

    /// The field's bit in a set of fields.
    #[inline(always)]
    pub(super) fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The object that contains this object; `None` for the body.
    pub(super) fn container(self) -> Option<Field> {
        match self {
            Field::Message => Some(Field::Body),
            Field::Machine => Some(Field::Run),
            Field::Deployment | Field::Worker | Field::Run => Some(Field::Message),
            _ => None,
        }
    }
}
