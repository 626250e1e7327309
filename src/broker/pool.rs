//! The key index: which polls wait for which key on this worker.
//!
//! A pool is one key's waiting polls, in the order in which they came, and what was counted for
//! the key. Pools outlive their polls so that the counts do; a pool that nobody waits in and that
//! no dispatch refers to is idle, and the longest idle one makes room when the table is full.

use super::key::{Key, KeyRef};
use super::list::{Links, List};
use super::settings::MatchOrder;
use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

/// Index of a pool. Stays valid while a poll waits in it or a dispatch pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(u32);

/// What a key may have in common with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The deployment.
    Deployment,
    /// The deployment and its version.
    Version,
}

impl Relation {
    /// All of them, by `Relation as usize`.
    pub const ALL: [Relation; 2] = [Relation::Deployment, Relation::Version];
}

/// One key's polls and counts. Of a key that nobody has used for long each cache line is a miss: what it takes to find
/// the key and its next poll comes first and fills one, but for the key's text.
#[repr(C, align(64))]
pub struct Pool {
    key: Key,
    hash: u64,
    waiting: List,
    /// Polls and dispatches that hold this pool's id.
    pins: u32,
    relation_hashes: [u64; Relation::ALL.len()],
    /// Polls claimed by a dispatch and not yet confirmed.
    pub claimed: u32,
    /// Polls held in their last moments, out of the index.
    pub parked: u32,
    /// Polls held under a cordon, out of the index.
    pub cordoned: u32,
    /// Dispatches answered true.
    pub warm: u64,
    /// Dispatches answered false.
    pub cold: u64,
}

impl Pool {
    /// The key, for whoever needs it elsewhere.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The key, to look at.
    pub fn key_ref(&self) -> KeyRef<'_> {
        Key::as_ref(&self.key)
    }

    /// The key's hash: the same on every worker.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of what such a relative has in common with the key: the same on every worker.
    pub fn relation_hash(&self, relation: Relation) -> u64 {
        self.relation_hashes[relation as usize]
    }

    /// Polls held: in the index, claimed or parked.
    pub fn held(&self) -> usize {
        self.waiting() + (self.claimed + self.parked + self.cordoned) as usize
    }

    /// Polls in the index.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The connection slot of the poll that has waited longest.
    pub fn oldest(&self) -> Option<u32> {
        self.waiting.front()
    }
}

/// All pools of one worker.
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
    /// An empty index for at most `keys_max` keys; `hasher` is seeded alike on every worker.
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

    /// The pool of `key`, made if need be, pinned until [`Pools::unpin`]. `None` when `keys_max`
    /// keys are all in use.
    pub fn pin(&mut self, key: KeyRef<'_>) -> Option<PoolId> {
        let hash = key.hash(&self.hasher);
        let pools = &self.pools;
        let found = self.table.find(hash, |id| {
            let pool = &pools[id.0 as usize];
            pool.hash == hash && pool.key_ref() == key
        });
        if let Some(&id) = found {
            self.repin(id);
            return Some(id);
        }
        if self.pools.len() >= self.keys_max && !self.evict() {
            return None;
        }
        let pool = Pool {
            key: key.to_key(),
            hash,
            waiting: List::default(),
            pins: 1,
            relation_hashes: key.relation_hashes(&self.hasher),
            claimed: 0,
            parked: 0,
            cordoned: 0,
            warm: 0,
            cold: 0,
        };
        let id = PoolId(self.pools.insert(pool) as u32);
        let pools = &self.pools;
        self.table.insert_unique(hash, id, |id| pools[id.0 as usize].hash);
        Some(id)
    }

    /// One more pin on a pool that is known to exist.
    pub fn repin(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0 as usize];
        if pool.pins == 0 {
            self.idle.remove(&mut self.idle_links, id.0);
        }
        pool.pins += 1;
    }

    /// Gives back a pin.
    pub fn unpin(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0 as usize];
        pool.pins -= 1;
        if pool.pins == 0 {
            self.idle.push_back(&mut self.idle_links, id.0);
        }
    }

    /// Forgets the longest idle pool, counts and all.
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

    /// Puts the poll on connection slot `slot` into the index, newest last. Answers how many of the
    /// key are there now.
    pub fn wait(&mut self, id: PoolId, slot: u32) -> usize {
        let waiting = &mut self.pools[id.0 as usize].waiting;
        waiting.push_back(&mut self.poll_links, slot);
        waiting.len()
    }

    /// Takes the poll on connection slot `slot` out of the index. Answers how many of the key are left.
    pub fn leave(&mut self, id: PoolId, slot: u32) -> usize {
        let waiting = &mut self.pools[id.0 as usize].waiting;
        waiting.remove(&mut self.poll_links, slot);
        waiting.len()
    }

    /// The first poll in matching order for which `may` holds. It stays in the index.
    pub fn choose(&self, id: PoolId, order: MatchOrder, may: impl Fn(u32) -> bool) -> Option<u32> {
        let list = &self.pools[id.0 as usize].waiting;
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

    /// A pinned pool.
    pub fn get(&self, id: PoolId) -> &Pool {
        &self.pools[id.0 as usize]
    }

    /// A pinned pool, to count in.
    pub fn get_mut(&mut self, id: PoolId) -> &mut Pool {
        &mut self.pools[id.0 as usize]
    }

    /// Every pool, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(|(_, pool)| pool)
    }

    /// The pools of one page of the table, and where the next page begins.
    pub fn page(&self, from: usize, len: usize) -> (impl Iterator<Item = &Pool>, Option<usize>) {
        let end = from.saturating_add(len);
        let pools = (from..end.min(self.pools.capacity())).filter_map(|slot| self.pools.get(slot));
        (pools, (end < self.pools.capacity()).then_some(end))
    }

    /// Nobody waits in any pool, and none is pinned.
    pub fn is_idle(&self) -> bool {
        self.idle.len() == self.pools.len() && self.iter().all(|pool| pool.held() == 0)
    }

    /// Number of keys remembered.
    pub fn len(&self) -> usize {
        self.pools.len()
    }

    /// No key remembered.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    const CACHE_LINE_BYTES: usize = 64;

    #[test]
    fn what_finds_a_key_and_its_next_poll_is_one_cache_line() {
        let end_of_pins = offset_of!(Pool, pins) + size_of::<u32>();
        assert!(offset_of!(Pool, key) == 0 && end_of_pins <= CACHE_LINE_BYTES, "{end_of_pins}");
        assert_eq!(size_of::<Pool>(), 2 * CACHE_LINE_BYTES);
    }
}
