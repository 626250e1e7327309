//! Interned names with reference counts: thousands of polls name a few dozen nodes.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

struct Name {
    text: Box<str>,
    hash: u64,
    references: u32,
}

/// The number that stands for no name.
pub const NO_NAME: u32 = u32::MAX;

/// A table of names with reference counts.
pub struct Names {
    hasher: RandomState,
    table: HashTable<u32>,
    names: Slab<Name>,
}

impl Names {
    pub fn new(hasher: RandomState) -> Self {
        Names { hasher, table: HashTable::new(), names: Slab::new() }
    }

    /// Interns `text` and adds a reference. Returns the name's number.
    pub fn hold(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let names = &self.names;
        if let Some(&id) = self.table.find(hash, |id| *names[*id as usize].text == *text) {
            self.names[id as usize].references += 1;
            return id;
        }
        let id = self.names.insert(Name { text: text.into(), hash, references: 1 }) as u32;
        let names = &self.names;
        self.table.insert_unique(hash, id, |id| names[*id as usize].hash);
        id
    }

    /// Releases one reference. The last one removes the name.
    pub fn release(&mut self, id: u32) {
        let name = &mut self.names[id as usize];
        name.references -= 1;
        if name.references > 0 {
            return;
        }
        if let Ok(entry) = self.table.find_entry(name.hash, |known| *known == id) {
            entry.remove();
        }
        self.names.remove(id as usize);
    }

    /// The number of references to an interned name.
    pub fn references(&self, id: u32) -> usize {
        self.names[id as usize].references as usize
    }

    /// The text of an interned name.
    pub fn text(&self, id: u32) -> &str {
        &self.names[id as usize].text
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_release_removes_a_name() {
        let mut names = Names::new(RandomState::with_seeds(1, 2, 3, 4));
        let (a, b, other) = (names.hold("node-1"), names.hold("node-1"), names.hold("node-2"));
        assert_eq!(a, b);
        assert_ne!(a, other);
        names.release(a);
        assert_eq!(names.text(b), "node-1");
        names.release(b);
        assert_eq!(names.len(), 1);
        names.release(other);
        assert!(names.is_empty());
    }
}
