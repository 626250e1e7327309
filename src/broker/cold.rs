//! Why a dispatch is cold. The broker works this out only when it answers a cold dispatch.
//!
//! The reason is exact for this worker's polls. Other workers' polls show only in the hint table. It has a
//! bucket for the hash of a deployment, and one for a deployment with a version. A bucket is set while a
//! matchable poll exists. So a hash collision may cause `other_version` or `other_machine_size` although no
//! runner waits. The broker does not see polls of other workers that are parked, or cordoned by node.

use super::Broker;
use super::event::ColdReason;
use super::io::Shared;
use super::pools::{PoolId, Relation};

impl<S: Shared> Broker<S> {
    /// Why no poll could be offered a run of this key.
    #[cold]
    pub(super) fn cold_reason(&self, id: PoolId) -> ColdReason {
        let pool = self.index.pool(id);
        if pool.cordoned() > 0 || self.cordons.covers_deployment(pool.key_ref().deployment) {
            return ColdReason::Cordoned;
        }
        if pool.held() > pool.claimed() {
            return ColdReason::Parked;
        }
        if self.index.has_related(&self.shared, id, Relation::Version) {
            ColdReason::OtherMachineSize
        } else if self.index.has_related(&self.shared, id, Relation::Deployment) {
            ColdReason::OtherVersion
        } else {
            ColdReason::NoRunner
        }
    }

    /// Counts a cold dispatch.
    #[cold]
    pub(super) fn count_cold(&mut self, reason: ColdReason) {
        let counters = &mut self.counters;
        *match reason {
            ColdReason::NoRunner => &mut counters.cold_no_runner,
            ColdReason::OtherVersion => &mut counters.cold_other_version,
            ColdReason::OtherMachineSize => &mut counters.cold_other_machine_size,
            ColdReason::Parked => &mut counters.cold_parked,
            ColdReason::Cordoned => &mut counters.cold_cordoned,
            ColdReason::ShuttingDown => &mut counters.cold_shutting_down,
            ColdReason::KeyLimit => &mut counters.cold_key_limit,
            ColdReason::BytesLimit => &mut counters.cold_bytes_limit,
        } += 1;
    }
}
