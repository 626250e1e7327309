//! The polls and statistics of one key.

use super::key::{Key, KeyRef};
use super::list::List;
use ahash::RandomState;

/// Index of a pool. Valid while a poll or a dispatch pins the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub(super) u32);

/// What two keys may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Deployment,
    /// Deployment and version.
    Version,
}

impl Relation {
    /// In the order of `Relation as usize`.
    pub const ALL: [Relation; 2] = [Relation::Deployment, Relation::Version];
}

/// One key's polls and counts. For a key that was not used recently, each cache line is a cache miss. So the
/// fields that find the key and its next poll come first. They fit one line, except for the key's text.
#[repr(C, align(64))]
pub struct Pool {
    pub(super) key: Key,
    pub(super) hash: u64,
    /// The matchable polls, by connection slot, oldest first.
    pub(super) matchable: List,
    /// Number of polls and dispatches that hold this pool's id.
    pub(super) pins: u32,
    pub(super) relation_hashes: [u64; Relation::ALL.len()],
    pub(super) claimed: u32,
    pub(super) parked: u32,
    pub(super) cordoned: u32,
    /// Dispatches by outcome. The three are disjoint.
    pub warm: u64,
    pub cold: u64,
    pub unconfirmed: u64,
}

impl Pool {
    pub(super) fn new(key: KeyRef<'_>, hash: u64, hasher: &RandomState) -> Pool {
        Pool {
            key: key.to_key(),
            hash,
            matchable: List::default(),
            pins: 1,
            relation_hashes: key.relation_hashes(hasher),
            claimed: 0,
            parked: 0,
            cordoned: 0,
            warm: 0,
            cold: 0,
            unconfirmed: 0,
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn key_ref(&self) -> KeyRef<'_> {
        Key::as_ref(&self.key)
    }

    /// The key's hash, the same on every worker.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of the part of the key that `relation` names, the same on every worker.
    pub fn relation_hash(&self, relation: Relation) -> u64 {
        self.relation_hashes[relation as usize]
    }

    /// Polls held, in any state.
    pub fn held(&self) -> usize {
        self.matchable() + (self.claimed + self.parked + self.cordoned) as usize
    }

    /// Polls that a dispatch may claim.
    pub fn matchable(&self) -> usize {
        self.matchable.len()
    }

    /// Polls claimed by a dispatch and not yet confirmed.
    pub fn claimed(&self) -> usize {
        self.claimed as usize
    }

    /// Polls too close to their timeout to be offered a run.
    pub fn parked(&self) -> usize {
        self.parked as usize
    }

    /// Polls under a cordon.
    pub fn cordoned(&self) -> usize {
        self.cordoned as usize
    }

    /// The connection slot of the matchable poll that has waited longest.
    pub fn oldest(&self) -> Option<u32> {
        self.matchable.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    const CACHE_LINE_BYTES: usize = 64;

    #[test]
    fn the_fields_of_the_hot_path_fit_one_cache_line() {
        let end_of_pins = offset_of!(Pool, pins) + size_of::<u32>();
        assert!(offset_of!(Pool, key) == 0 && end_of_pins <= CACHE_LINE_BYTES, "{end_of_pins}");
        assert_eq!(size_of::<Pool>(), 2 * CACHE_LINE_BYTES);
    }
}
