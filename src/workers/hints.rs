//! What all workers share: hints, the counts of connections, the budget for bytes in flight. Nothing here
//! is ever locked.

use super::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::broker::io::{HINT_KINDS, Shared, WorkerSet};
use std::sync::Arc;

/// Buckets of key hashes. A collision costs one message that finds nothing.
const BUCKETS: usize = 4096;
/// Entries in which the connections of addresses are counted, by a hash of the address. Addresses that
/// meet in one share its bound; which ones do is drawn anew at every start.
pub const GROUPS: usize = 1 << 16;

/// The shared table, one handle per core.
#[derive(Clone)]
pub struct Hints(Arc<Table>);

struct Table {
    /// Of keys, then as many of each relation.
    buckets: Vec<AtomicU64>,
    key_buckets: usize,
    connections: AtomicUsize,
    /// Open connections by group of addresses.
    groups: Vec<AtomicU32>,
    /// Leased of the budget for bytes in flight.
    leased_bytes: AtomicUsize,
}

impl Default for Hints {
    fn default() -> Self {
        Hints::with_sizes(BUCKETS, GROUPS)
    }
}

impl Hints {
    /// An empty table of so many buckets of keys, a power of two, and of so many groups of addresses.
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

    // A core announces before anything else that it does with the poll (its runner's next read,
    // say) can be observed, and a reader that cold the bit would have missed the poll as well had
    // it asked the core itself: release and acquire are enough.
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
        // Relaxed: a count, which publishes nothing else.
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

    // Relaxed as well: two at once may both be refused at the bound, and never both let in above it.
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
