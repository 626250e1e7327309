//! Verified tokens.
//!
//! The tokens of one deployment are byte-identical, so a fleet has one per deployment. Only verified tokens are
//! kept, so a forger cannot evict a valid one.

use ahash::RandomState;
use hashbrown::HashTable;
use std::sync::Arc;

/// The content of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `deployment`: the friendly id.
    pub deployment: Arc<str>,
    pub deployment_version: Box<str>,
    /// Microseconds of Unix time; expired from then on.
    pub expires_unix_us: u64,
    /// Microseconds of Unix time; not valid before.
    pub not_before_unix_us: u64,
}

struct Entry {
    token: Box<str>,
    hash: u64,
    verified: Verified,
    /// Found since the CLOCK hand last passed.
    used: bool,
}

/// A bounded table. Evicts approximately the least recently used token (the CLOCK algorithm).
pub struct Cache {
    hasher: RandomState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    entries_max: usize,
    /// The next candidate for eviction.
    hand: usize,
}

impl Cache {
    /// `hasher` must have a random seed.
    pub fn new(hasher: RandomState, entries_max: usize) -> Self {
        Cache { hasher, table: HashTable::new(), entries: Vec::new(), entries_max, hand: 0 }
    }

    /// Compares bytes only with an entry that has the same 64-bit hash under a secret seed. So the time taken
    /// reveals nothing about other tokens.
    #[inline]
    pub fn get(&mut self, token: &str) -> Option<&Verified> {
        let hash = self.hasher.hash_one(token);
        let entries = &self.entries;
        let same = |at: &u32| {
            let entry = &entries[*at as usize];
            entry.hash == hash && *entry.token == *token
        };
        let at = *self.table.find(hash, same)? as usize;
        let entry = &mut self.entries[at];
        entry.used = true;
        Some(&entry.verified)
    }

    /// `token` must not be in the table yet.
    pub fn insert(&mut self, token: &str, verified: Verified) {
        let hash = self.hasher.hash_one(token);
        let entry = Entry { token: token.into(), hash, verified, used: false };
        let at = if self.entries.len() < self.entries_max {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let Some(at) = self.make_room() else { return };
            self.entries[at] = entry;
            at
        };
        let entries = &self.entries;
        self.table.insert_unique(hash, at as u32, |at| entries[*at as usize].hash);
    }

    /// Evicts one entry and returns its index.
    fn make_room(&mut self) -> Option<usize> {
        // The first round clears every mark, so the second round finds an entry.
        for _ in 0..2 * self.entries.len() {
            let at = self.hand;
            self.hand = (at + 1) % self.entries.len();
            if !std::mem::take(&mut self.entries[at].used) {
                let hash = self.entries[at].hash;
                if let Ok(found) = self.table.find_entry(hash, |known| *known == at as u32) {
                    found.remove();
                }
                return Some(at);
            }
        }
        None
    }

    pub fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.hand = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries_max: usize) -> Cache {
        Cache::new(RandomState::with_seeds(1, 2, 3, 4), entries_max)
    }

    fn verified(deployment: &str) -> Verified {
        Verified {
            deployment: deployment.into(),
            deployment_version: "1".into(),
            expires_unix_us: 1,
            not_before_unix_us: 0,
        }
    }

    #[test]
    fn stays_within_its_limit_and_keeps_used_entries() {
        let mut cache = cache(8);
        for n in 0..1_000 {
            let token = format!("token {n}");
            assert!(cache.get(&token).is_none());
            cache.insert(&token, verified(&token));
            if n == 0 {
                continue;
            }
            assert_eq!(cache.get("token 0").map(|found| &*found.deployment), Some("token 0"), "after {n}");
            assert_eq!(cache.entries.len(), cache.table.len());
            assert!(cache.entries.len() <= 8);
        }
        for (at, entry) in cache.entries.iter().enumerate() {
            let found = cache.table.find(entry.hash, |known| *known == at as u32);
            assert!(found.is_some(), "{at} can be found");
        }
    }

    #[test]
    fn every_byte_counts() {
        let mut cache = cache(8);
        cache.insert("a.b.c", verified("x"));
        for other in ["a.b.c ", "a.b.C", "a.b.", "", "a.b.cc"] {
            assert!(cache.get(other).is_none(), "{other:?}");
        }
        assert!(cache.get("a.b.c").is_some());
        cache.clear();
        assert!(cache.get("a.b.c").is_none());
    }
}
