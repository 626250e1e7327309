//! This worker's entries in the shared hint table.

use crate::broker::shared::{HINT_KINDS, Shared};

/// Counts what this worker has in each bucket of the shared hint table. A bucket of keys counts matchable
/// polls; a bucket of relations counts pools with matchable polls. Only the first and the last of a bucket
/// change the table.
pub struct HintCounts {
    worker: usize,
    counts: Vec<u32>,
}

impl HintCounts {
    pub fn new(worker: usize, shared: &impl Shared) -> Self {
        HintCounts { worker, counts: vec![0; HINT_KINDS * shared.buckets()] }
    }

    /// Counts one more in `bucket`.
    #[inline]
    pub fn add(&mut self, shared: &impl Shared, bucket: usize) {
        self.counts[bucket] += 1;
        if self.counts[bucket] == 1 {
            shared.announce(bucket, self.worker);
        }
    }

    /// Counts one fewer in `bucket`.
    #[inline]
    pub fn remove(&mut self, shared: &impl Shared, bucket: usize) {
        self.counts[bucket] -= 1;
        if self.counts[bucket] == 0 {
            shared.withdraw(bucket, self.worker);
        }
    }

    /// The counts of all buckets.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }
}
