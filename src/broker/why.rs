//! Why a dispatch found nobody. Asked when a miss is answered, and never else.
//!
//! Exact for what this core holds. What other cores hold shows in the hint table alone: a bucket of
//! the deployment's hash and one of deployment and version, marked while a poll of theirs is in the
//! index. So across cores a collision may say `other_version` or `other_machine` where nobody waits,
//! and polls that another core holds in their last moments or under a node's cordon are not seen.

use super::Broker;
use super::event::MissReason;
use super::io::Shared;
use super::pool::{PoolId, Relation};

impl<S: Shared> Broker<S> {
    /// Why no poll could be offered a run of this key.
    #[cold]
    pub(super) fn miss_reason(&self, id: PoolId) -> MissReason {
        let pool = self.pools.get(id);
        if pool.cordoned > 0 || self.cordons.cover_deployment(pool.key_ref().deployment) {
            return MissReason::Cordoned;
        }
        if pool.held() > pool.claimed as usize {
            return MissReason::Ending;
        }
        let somebody = |relation| self.shared.holders(self.relation_bucket(id, relation)).0 != 0;
        if somebody(Relation::Version) {
            MissReason::OtherMachine
        } else if somebody(Relation::Deployment) {
            MissReason::OtherVersion
        } else {
            MissReason::Nobody
        }
    }

    /// Where misses of this reason are counted.
    #[cold]
    pub(super) fn missed(&mut self, reason: MissReason) -> &mut u64 {
        let counters = &mut self.counters;
        match reason {
            MissReason::Nobody => &mut counters.misses_nobody,
            MissReason::OtherVersion => &mut counters.misses_other_version,
            MissReason::OtherMachine => &mut counters.misses_other_machine,
            MissReason::Ending => &mut counters.misses_ending,
            MissReason::Cordoned => &mut counters.misses_cordoned,
            MissReason::Draining => &mut counters.misses_draining,
            MissReason::KeyLimit => &mut counters.misses_key_limit,
            MissReason::BytesLimit => &mut counters.misses_bytes_limit,
        }
    }

    /// The first poll of a pool is in the index now.
    #[cold]
    pub(super) fn announce_relations(&mut self, id: PoolId) {
        for relation in Relation::ALL {
            let bucket = self.relation_bucket(id, relation);
            self.bucket_counts[bucket] += 1;
            if self.bucket_counts[bucket] == 1 {
                self.shared.announce(bucket, self.core);
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
                self.shared.withdraw(bucket, self.core);
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
