//! What the workers of a process share. The driver implements it.

/// A set of workers, by index below 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(pub u64);

impl WorkerSet {
    /// The most workers that a set can contain, and so the most workers of a broker.
    pub const WORKERS_MAX: usize = 64;

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn without(self, worker: usize) -> WorkerSet {
        WorkerSet(self.0 & !(1 << worker))
    }

    pub fn minus(self, other: WorkerSet) -> WorkerSet {
        WorkerSet(self.0 & !other.0)
    }

    pub fn with(self, worker: usize) -> WorkerSet {
        WorkerSet(self.0 | 1 << worker)
    }

    /// The first member after `worker`, wrapping around. Spreads the offers of many workers.
    pub fn next_after(self, worker: usize) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let from = (worker as u32 + 1) % 64;
        Some((self.0.rotate_right(from).trailing_zeros() + from) as usize % 64)
    }
}

/// Kinds of buckets in the hint table: of keys, of deployments, of deployments with a version.
pub const HINT_KINDS: usize = 3;

/// What all workers share:
/// - the hint table: bucket of hashes -> workers that may have a matchable poll;
/// - the counts of open connections;
/// - the budget for bytes in flight.
///
/// A hint may be set although no worker has a poll. A reader that runs after a poll was indexed never finds its
/// hint clear. So a cold answer, the most frequent one while few runners wait, costs one load and no message.
pub trait Shared {
    /// The number of buckets of one kind, a power of two. The table has [`HINT_KINDS`] times as many: of
    /// keys, then of deployments, then of deployments with a version. The last two give the reason of a
    /// cold answer.
    fn buckets(&self) -> usize;
    /// `worker` now has a matchable poll in `bucket`.
    fn announce(&self, bucket: usize, worker: usize);
    /// `worker` has no matchable poll in `bucket` any more.
    fn withdraw(&self, bucket: usize, worker: usize);
    /// The workers that may have a matchable poll in `bucket`.
    fn holders(&self, bucket: usize) -> WorkerSet;
    /// Counts one more open connection if fewer than `connections_max` are counted.
    fn open_connection(&self, connections_max: usize) -> bool;
    fn close_connection(&self);
    fn open_connections(&self) -> usize;
    /// Counts one more open connection of the address group if it has fewer than `connections_max`.
    fn open_from(&self, group: u32, connections_max: u32) -> bool;
    fn close_from(&self, group: u32);
    /// Leases `bytes` of the budget for in-flight bytes, if that brings the total to at most `bytes_max`.
    fn lease(&self, bytes: usize, bytes_max: usize) -> bool;
    fn give_back(&self, bytes: usize);
}
