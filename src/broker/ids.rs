//! Ids of connections and dispatches.

/// A connection: a slot of the engine's table, and how often that slot has been used. The broker core drops a
/// fact about an earlier connection in the slot, because its generation does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Index in the tables of the engine and of the broker core.
    pub slot: u32,
    pub generation: u32,
}

/// A dispatch on the worker that received it: the supervisor's connection and that connection's request
/// number. The number keeps a late reply from answering the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub conn: ConnId,
    pub request: u32,
}
