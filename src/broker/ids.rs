//! Ids of connections and dispatches.

/// A connection: a slot of the engine's table, and how often that slot has been used. The core drops a fact about
/// an earlier connection in the slot, because its generation does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Index in the tables of the engine and of the core.
    pub slot: u32,
    pub generation: u32,
}

/// A dispatch on the worker that received it: the supervisor's connection and that connection's request
/// number, so that a late reply cannot answer the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub conn: ConnId,
    pub request: u32,
}
