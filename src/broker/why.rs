//! Why a dispatch found nobody. Asked when a miss is answered, and never else.
//!
//! Exact for what this worker holds. What other workers hold shows in the hint table alone: a bucket of
//! the deployment's hash and one of deployment and version, marked while a poll of theirs is in the
//! index. So across workers a collision may say `other_version` or `other_machine_size` where nobody waits,
//! and polls that another worker holds in their last moments or under a node's cordon are not seen.

use super::Broker;
use super::event::ColdReason;
use super::io::Shared;
use super::pool::{PoolId, Relation};

impl<S: Shared> Broker<S> {
    /// Why no poll could be offered a run of this key.
    #[cold]
    pub(super) fn cold_reason(&self, id: PoolId) -> ColdReason {
        let pool = self.pools.get(id);
        if pool.cordoned > 0 || self.cordons.cover_deployment(pool.key_ref().deployment) {
            return ColdReason::Cordoned;
        }
        if pool.held() > pool.claimed as usize {
            return ColdReason::Parked;
        }
        let somebody = |relation| self.shared.holders(self.relation_bucket(id, relation)).0 != 0;
        if somebody(Relation::Version) {
            ColdReason::OtherMachineSize
        } else if somebody(Relation::Deployment) {
            ColdReason::OtherVersion
        } else {
            ColdReason::NoRunner
        }
    }

    /// Where cold of this reason are counted.
    #[cold]
    pub(super) fn missed(&mut self, reason: ColdReason) -> &mut u64 {
        let counters = &mut self.counters;
        match reason {
            ColdReason::NoRunner => &mut counters.cold_no_runner,
            ColdReason::OtherVersion => &mut counters.cold_other_version,
            ColdReason::OtherMachineSize => &mut counters.cold_other_machine_size,
            ColdReason::Parked => &mut counters.cold_parked,
            ColdReason::Cordoned => &mut counters.cold_cordoned,
            ColdReason::ShuttingDown => &mut counters.cold_shutting_down,
            ColdReason::KeyLimit => &mut counters.cold_key_limit,
            ColdReason::BytesLimit => &mut counters.cold_bytes_limit,
        }
    }

    /// The first poll of a pool is in the index now.
    #[cold]
    pub(super) fn announce_relations(&mut self, id: PoolId) {
        for relation in Relation::ALL {
            let bucket = self.relation_bucket(id, relation);
            self.bucket_counts[bucket] += 1;
            if self.bucket_counts[bucket] == 1 {
                self.shared.announce(bucket, self.worker);
            }
        }
    }

    /// The last poll of a pool has left the index.
    #[cold]
    pub(super) fn withdraw_relations(&mut self, id: PoolId) {
        for relation in Relation::ALL {
            let bucket = self.relation_bucket(id, relation);
            self.bucket_counts[bucket] -= 1;
            if self.bucket_counts[bucket] == 0 {
                self.shared.withdraw(bucket, self.worker);
            }
        }
    }

    /// Behind the keys' buckets come as many of each relation.
    pub(super) fn relation_bucket(&self, id: PoolId, relation: Relation) -> usize {
        let buckets = self.shared.buckets();
        let hash = self.pools.get(id).relation_hash(relation);
        (1 + relation as usize) * buckets + (hash as usize & (buckets - 1))
    }
}
