//! The table of pools.
//!
//! A pool outlives its polls, so that its statistics survive. A full table removes the pool that has been idle
//! longest.

use super::key::KeyRef;
use super::list::{Links, List};
use super::pool::{Pool, PoolId};
use crate::broker::settings::MatchOrder;
use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

/// All pools of one worker. A pool without pins is idle.
pub struct Pools {
    hasher: RandomState,
    table: HashTable<PoolId>,
    pools: Slab<Pool>,
    poll_links: Links,
    idle: List,
    idle_links: Links,
    keys_max: usize,
}

impl Pools {
    /// An empty table for at most `keys_max` keys. `hasher` must have the same seed on every worker.
    pub fn new(hasher: RandomState, keys_max: usize) -> Self {
        Pools {
            hasher,
            table: HashTable::new(),
            pools: Slab::new(),
            poll_links: Links::default(),
            idle: List::default(),
            idle_links: Links::default(),
            keys_max,
        }
    }

    /// Finds or creates the pool of `key` and pins it until [`Pools::unpin`]. `None` if `keys_max` keys
    /// are all in use.
    pub fn pin(&mut self, key: KeyRef<'_>) -> Option<PoolId> {
        let hash = key.hash(&self.hasher);
        let pools = &self.pools;
        let found = self.table.find(hash, |id| {
            let pool = &pools[id.0 as usize];
            pool.hash == hash && pool.key_ref() == key
        });
        if let Some(&id) = found {
            let pool = &mut self.pools[id.0 as usize];
            if pool.pins == 0 {
                self.idle.remove(&mut self.idle_links, id.0);
            }
            pool.pins += 1;
            return Some(id);
        }
        if self.pools.len() >= self.keys_max && !self.evict() {
            return None;
        }
        let pool = Pool::new(key, hash, &self.hasher);
        let id = PoolId(self.pools.insert(pool) as u32);
        let pools = &self.pools;
        self.table.insert_unique(hash, id, |id| pools[id.0 as usize].hash);
        Some(id)
    }

    pub fn unpin(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0 as usize];
        pool.pins -= 1;
        if pool.pins == 0 {
            self.idle.push_back(&mut self.idle_links, id.0);
        }
    }

    /// Removes the pool that has been idle longest, with its counts.
    fn evict(&mut self) -> bool {
        let Some(slot) = self.idle.front() else { return false };
        self.idle.remove(&mut self.idle_links, slot);
        let hash = self.pools[slot as usize].hash;
        if let Ok(entry) = self.table.find_entry(hash, |id| id.0 == slot) {
            entry.remove();
        }
        self.pools.remove(slot as usize);
        true
    }

    /// Makes the poll on connection slot `slot` matchable, as the newest. Returns the number of the
    /// pool's matchable polls.
    pub(super) fn push(&mut self, id: PoolId, slot: u32) -> usize {
        let matchable = &mut self.pools[id.0 as usize].matchable;
        matchable.push_back(&mut self.poll_links, slot);
        matchable.len()
    }

    /// Removes the poll on connection slot `slot` from the matchable ones. Returns the number left.
    pub(super) fn remove(&mut self, id: PoolId, slot: u32) -> usize {
        let matchable = &mut self.pools[id.0 as usize].matchable;
        matchable.remove(&mut self.poll_links, slot);
        matchable.len()
    }

    /// The first poll, in matching order, that `may` accepts. It stays matchable.
    pub fn choose(&self, id: PoolId, order: MatchOrder, may: impl Fn(u32) -> bool) -> Option<u32> {
        let list = &self.pools[id.0 as usize].matchable;
        let links = &self.poll_links;
        let mut candidate = match order {
            MatchOrder::Newest => list.back(),
            MatchOrder::Oldest => list.front(),
        };
        while let Some(slot) = candidate {
            if may(slot) {
                return Some(slot);
            }
            candidate = match order {
                MatchOrder::Newest => list.before(links, slot),
                MatchOrder::Oldest => list.after(links, slot),
            };
        }
        None
    }

    pub fn get(&self, id: PoolId) -> &Pool {
        &self.pools[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: PoolId) -> &mut Pool {
        &mut self.pools[id.0 as usize]
    }

    /// All pools, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(|(_, pool)| pool)
    }

    /// The pools of one page of the table, and the start of the next page.
    pub fn page(&self, from: usize, len: usize) -> (impl Iterator<Item = &Pool>, Option<usize>) {
        let end = from.saturating_add(len);
        let pools = (from..end.min(self.pools.capacity())).filter_map(|slot| self.pools.get(slot));
        (pools, (end < self.pools.capacity()).then_some(end))
    }

    /// No poll is held and no pool is pinned.
    pub fn is_idle(&self) -> bool {
        self.idle.len() == self.pools.len() && self.iter().all(|pool| pool.held() == 0)
    }

    /// The number of keys remembered.
    pub fn len(&self) -> usize {
        self.pools.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}
