//! What all cores share: hints, and the count of connections. Nothing here is ever locked.

use super::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::broker::io::{CoreSet, HINT_KINDS, Shared};
use std::sync::Arc;

/// Buckets of key hashes. A collision costs one message that finds nothing.
const BUCKETS: usize = 4096;

/// The shared table, one handle per core.
#[derive(Clone)]
pub struct Hints(Arc<Table>);

struct Table {
    /// Of keys, then as many of each relation.
    buckets: Vec<AtomicU64>,
    key_buckets: usize,
    connections: AtomicUsize,
}

impl Default for Hints {
    fn default() -> Self {
        Hints::with_buckets(BUCKETS)
    }
}

impl Hints {
    /// An empty table of so many buckets of keys, a power of two.
    pub fn with_buckets(count: usize) -> Self {
        let buckets = (0..HINT_KINDS * count).map(|_| AtomicU64::new(0)).collect();
        Hints(Arc::new(Table { buckets, key_buckets: count, connections: AtomicUsize::new(0) }))
    }
}

impl Shared for Hints {
    fn buckets(&self) -> usize {
        self.0.key_buckets
    }

    // A core announces before anything else that it does with the poll (its runner's next read,
    // say) can be observed, and a reader that misses the bit would have missed the poll as well had
    // it asked the core itself: release and acquire are enough.
    fn announce(&self, bucket: usize, core: usize) {
        self.0.buckets[bucket].fetch_or(1 << core, Ordering::Release);
    }

    fn withdraw(&self, bucket: usize, core: usize) {
        self.0.buckets[bucket].fetch_and(!(1 << core), Ordering::Release);
    }

    fn holders(&self, bucket: usize) -> CoreSet {
        CoreSet(self.0.buckets[bucket].load(Ordering::Acquire))
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
}
