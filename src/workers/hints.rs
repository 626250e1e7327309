//! What all workers share, without locks: hints, connection counts, the budget for in-flight bytes.

use super::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::broker::io::{HINT_KINDS, Shared, WorkerSet};
use std::sync::Arc;

/// Buckets of key hashes. A collision costs one offer that finds no poll.
const BUCKETS: usize = 4096;
/// Groups in which the connections of addresses are counted, by a hash of the address. Addresses in one group
/// share its limit; the hash has a new seed at every start.
pub const GROUPS: usize = 1 << 16;

/// A handle on the shared table, one per worker.
#[derive(Clone)]
pub struct Hints(Arc<Table>);

struct Table {
    /// One bit per worker in each bucket: the buckets of keys, then as many for each relation.
    buckets: Vec<AtomicU64>,
    key_buckets: usize,
    connections: AtomicUsize,
    /// Open connections per group of addresses.
    groups: Vec<AtomicU32>,
    /// What the workers have leased of the budget for bytes in flight.
    leased_bytes: AtomicUsize,
}

impl Default for Hints {
    fn default() -> Self {
        Hints::with_sizes(BUCKETS, GROUPS)
    }
}

impl Hints {
    /// An empty table with `key_buckets` buckets of keys (a power of two) and `groups` groups of addresses.
    pub fn with_sizes(key_buckets: usize, groups: usize) -> Self {
        let buckets = (0..HINT_KINDS * key_buckets).map(|_| AtomicU64::new(0)).collect();
        let groups = (0..groups).map(|_| AtomicU32::new(0)).collect();
        let (connections, leased_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Hints(Arc::new(Table { buckets, key_buckets, connections, groups, leased_bytes }))
    }

    fn group(&self, group: u32) -> &AtomicU32 {
        &self.0.groups[group as usize % self.0.groups.len()]
    }
}

impl Shared for Hints {
    fn buckets(&self) -> usize {
        self.0.key_buckets
    }

    // A worker sets the bit before it does anything with the poll that others can observe, such as reading the runner's
    // next request. A reader that misses the bit would have missed the poll as well, had it asked the worker itself. So
    // release and acquire are enough.
    fn announce(&self, bucket: usize, worker: usize) {
        self.0.buckets[bucket].fetch_or(1 << worker, Ordering::Release);
    }

    fn withdraw(&self, bucket: usize, worker: usize) {
        self.0.buckets[bucket].fetch_and(!(1 << worker), Ordering::Release);
    }

    fn holders(&self, bucket: usize) -> WorkerSet {
        WorkerSet(self.0.buckets[bucket].load(Ordering::Acquire))
    }

    fn open_connection(&self, connections_max: usize) -> bool {
        // Relaxed: the count publishes nothing else.
        if self.0.connections.fetch_add(1, Ordering::Relaxed) < connections_max {
            return true;
        }
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        false
    }

    fn close_connection(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn open_connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    // Relaxed as well: at the limit, two simultaneous calls may both fail, but never both succeed beyond it.
    fn open_from(&self, group: u32, group_max: u32) -> bool {
        let count = self.group(group);
        if count.fetch_add(1, Ordering::Relaxed) < group_max {
            return true;
        }
        count.fetch_sub(1, Ordering::Relaxed);
        false
    }

    fn close_from(&self, group: u32) {
        self.group(group).fetch_sub(1, Ordering::Relaxed);
    }

    fn lease(&self, bytes: usize, bytes_max: usize) -> bool {
        let before = self.0.leased_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= bytes_max {
            return true;
        }
        self.0.leased_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    fn give_back(&self, bytes: usize) {
        self.0.leased_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
