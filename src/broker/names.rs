//! Interned names with reference counts: thousands of polls name a few dozen nodes.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

struct Name {
    text: Box<str>,
    hash: u64,
    references: u32,
}

/// A table of names. A name lives as long as somebody holds it.
pub struct Names {
    hasher: RandomState,
    table: HashTable<u32>,
    names: Slab<Name>,
}

impl Names {
    /// An empty table.
    pub fn new(hasher: RandomState) -> Self {
        Names { hasher, table: HashTable::new(), names: Slab::new() }
    }

    /// The name's number, held once more.
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

    /// Gives back one hold; the last one forgets the name.
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

    /// How often a held name is held.
    pub fn holds(&self, id: u32) -> usize {
        self.names[id as usize].references as usize
    }

    /// A held name's text.
    pub fn text(&self, id: u32) -> &str {
        &self.names[id as usize].text
    }

    /// Names held.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// No name held.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shared_and_forgotten_with_its_last_holder() {
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
