//! The index of held polls: by key, by state, and in the shared hints.

use super::hints::HintCounts;
use super::key::KeyRef;
use super::names::{NO_NAME, Names};
use super::pool::{Pool, PoolId, Relation};
use super::table::Pools;
use crate::broker::settings::{MatchOrder, Settings};
use crate::broker::shared::{Shared, WorkerSet};
use ahash::RandomState;

/// The state of a held poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollState {
    /// A dispatch may claim it.
    Matchable,
    /// Too close to its timeout to be offered a run.
    Parked,
    /// A cordon stops the broker from offering it a run.
    Cordoned,
    /// A run is being delivered to it.
    Claimed,
}

/// Held polls by state, over all pools. The sum is the number of held polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollCounts {
    pub matchable: usize,
    pub parked: usize,
    pub cordoned: usize,
    pub claimed: usize,
}

impl PollCounts {
    /// Held polls in any state.
    pub fn held(&self) -> usize {
        self.matchable + self.parked + self.cordoned + self.claimed
    }
}

/// The held polls of one worker, and the names that they refer to.
///
/// Invariants:
/// - Each held poll is counted in exactly one state, in its pool and in [`PollCounts`].
/// - Each matchable poll is in its pool's list and in the shared hints.
/// - Each held poll pins its pool and names.
pub struct Index {
    pools: Pools,
    nodes: Names,
    /// Deployments with held polls, if [`Settings::polls_per_deployment_max`] limits them.
    deployments: Names,
    hints: HintCounts,
    counts: PollCounts,
    worker: usize,
    polls_per_deployment_max: usize,
}

impl Index {
    /// `hasher` must have the same seed on every worker.
    pub fn new(worker: usize, settings: &Settings, hasher: &RandomState, shared: &impl Shared) -> Self {
        Index {
            pools: Pools::new(hasher.clone(), settings.keys_max),
            nodes: Names::new(hasher.clone()),
            deployments: Names::new(hasher.clone()),
            hints: HintCounts::new(worker, shared),
            counts: PollCounts::default(),
            worker,
            polls_per_deployment_max: settings.polls_per_deployment_max,
        }
    }

    /// Finds or creates the pool of `key` and pins it. `None` if there is no room for another key.
    #[inline]
    pub fn pin(&mut self, key: KeyRef<'_>) -> Option<PoolId> {
        self.pools.pin(key)
    }

    #[inline]
    pub fn unpin(&mut self, pool: PoolId) {
        self.pools.unpin(pool);
    }

    #[inline]
    pub fn pool(&self, id: PoolId) -> &Pool {
        self.pools.get(id)
    }

    #[inline]
    pub fn pool_mut(&mut self, id: PoolId) -> &mut Pool {
        self.pools.get_mut(id)
    }

    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    pub fn counts(&self) -> &PollCounts {
        &self.counts
    }

    /// Interns the node of a held poll; released with the poll.
    pub fn hold_node(&mut self, node: &str) -> u32 {
        self.nodes.hold(node)
    }

    pub fn node(&self, name: u32) -> &str {
        self.nodes.text(name)
    }

    /// Counts a held poll of `deployment`; released with the poll. [`NO_NAME`] if the polls of a
    /// deployment are not limited, `None` at the limit.
    pub fn hold_deployment(&mut self, deployment: &str) -> Option<u32> {
        if self.polls_per_deployment_max == usize::MAX {
            return Some(NO_NAME);
        }
        let name = self.deployments.hold(deployment);
        if self.deployments.references(name) <= self.polls_per_deployment_max {
            return Some(name);
        }
        self.deployments.release(name);
        None
    }

    /// Releases the pool and the names of a poll that is no longer held.
    pub fn release(&mut self, pool: PoolId, node: u32, deployment: u32) {
        self.pools.unpin(pool);
        self.nodes.release(node);
        if deployment != NO_NAME {
            self.deployments.release(deployment);
        }
    }

    /// Counts the poll on `slot` in `state`.
    #[inline]
    pub fn add(&mut self, shared: &impl Shared, slot: u32, pool: PoolId, state: PollState) {
        match state {
            PollState::Matchable => self.add_matchable(shared, slot, pool),
            PollState::Parked => {
                self.counts.parked += 1;
                self.pools.get_mut(pool).parked += 1;
            }
            PollState::Cordoned => {
                self.counts.cordoned += 1;
                self.pools.get_mut(pool).cordoned += 1;
            }
            PollState::Claimed => {
                self.counts.claimed += 1;
                self.pools.get_mut(pool).claimed += 1;
            }
        }
    }

    /// Stops counting the poll on `slot` in `state`.
    #[inline]
    pub fn remove(&mut self, shared: &impl Shared, slot: u32, pool: PoolId, state: PollState) {
        match state {
            PollState::Matchable => self.remove_matchable(shared, slot, pool),
            PollState::Parked => {
                self.counts.parked -= 1;
                self.pools.get_mut(pool).parked -= 1;
            }
            PollState::Cordoned => {
                self.counts.cordoned -= 1;
                self.pools.get_mut(pool).cordoned -= 1;
            }
            PollState::Claimed => {
                self.counts.claimed -= 1;
                self.pools.get_mut(pool).claimed -= 1;
            }
        }
    }

    /// The first matchable poll, in matching order, that `may` accepts.
    #[inline]
    pub fn choose(&self, pool: PoolId, order: MatchOrder, may: impl Fn(u32) -> bool) -> Option<u32> {
        self.pools.choose(pool, order, may)
    }

    /// The other workers that may have a matchable poll for the key of `pool`.
    #[inline]
    pub fn other_workers(&self, shared: &impl Shared, pool: PoolId) -> WorkerSet {
        shared.holders(key_bucket(shared, self.pools.get(pool))).without(self.worker)
    }

    /// Whether any worker may have a matchable poll whose key shares the part that `relation` names.
    pub fn has_related(&self, shared: &impl Shared, pool: PoolId, relation: Relation) -> bool {
        shared.holders(relation_bucket(shared, self.pools.get(pool), relation)).0 != 0
    }

    fn add_matchable(&mut self, shared: &impl Shared, slot: u32, pool: PoolId) {
        self.counts.matchable += 1;
        if self.pools.push(pool, slot) == 1 {
            self.announce_relations(shared, pool);
        }
        let bucket = key_bucket(shared, self.pools.get(pool));
        self.hints.add(shared, bucket);
    }

    fn remove_matchable(&mut self, shared: &impl Shared, slot: u32, pool: PoolId) {
        self.counts.matchable -= 1;
        if self.pools.remove(pool, slot) == 0 {
            self.withdraw_relations(shared, pool);
        }
        let bucket = key_bucket(shared, self.pools.get(pool));
        self.hints.remove(shared, bucket);
    }

    /// Call it when the pool gets its first matchable poll.
    #[cold]
    fn announce_relations(&mut self, shared: &impl Shared, pool: PoolId) {
        for relation in Relation::ALL {
            let bucket = relation_bucket(shared, self.pools.get(pool), relation);
            self.hints.add(shared, bucket);
        }
    }

    /// Call it when the pool has lost its last matchable poll.
    #[cold]
    fn withdraw_relations(&mut self, shared: &impl Shared, pool: PoolId) {
        for relation in Relation::ALL {
            let bucket = relation_bucket(shared, self.pools.get(pool), relation);
            self.hints.remove(shared, bucket);
        }
    }

    /// No poll is held, no pool pinned, no name interned, and no hint set.
    pub fn is_idle(&self) -> bool {
        let hints = self.hints.counts().iter().any(|count| *count > 0);
        let names = self.nodes.is_empty() && self.deployments.is_empty();
        self.counts.held() == 0 && !hints && names && self.pools.is_idle()
    }

    /// Recounts pools and hints. Debug builds only.
    #[cfg(debug_assertions)]
    pub fn check(&self, shared: &impl Shared) {
        let mut counts = PollCounts::default();
        let mut held = 0;
        for pool in self.pools.iter() {
            counts.matchable += pool.matchable();
            counts.parked += pool.parked();
            counts.cordoned += pool.cordoned();
            counts.claimed += pool.claimed();
            held += pool.held();
            let bucket = key_bucket(shared, pool);
            let in_bucket = self.pools.iter().filter(|other| key_bucket(shared, other) == bucket);
            let matchable: usize = in_bucket.map(Pool::matchable).sum();
            assert_eq!(self.hints.counts()[bucket] as usize, matchable, "hints of keys");
        }
        assert_eq!(counts, self.counts, "polls by state, over all pools");
        assert_eq!(held, counts.held(), "held polls of all keys");
        let related: u32 = self.hints.counts()[shared.buckets()..].iter().sum();
        let pools_matchable = self.pools.iter().filter(|pool| pool.matchable() > 0).count();
        assert_eq!(related as usize, Relation::ALL.len() * pools_matchable, "hints of relations");
    }
}

#[inline]
fn key_bucket(shared: &impl Shared, pool: &Pool) -> usize {
    pool.hash() as usize & (shared.buckets() - 1)
}

/// The buckets of each relation follow those of the keys.
fn relation_bucket(shared: &impl Shared, pool: &Pool, relation: Relation) -> usize {
    let buckets = shared.buckets();
    (1 + relation as usize) * buckets + (pool.relation_hash(relation) as usize & (buckets - 1))
}
