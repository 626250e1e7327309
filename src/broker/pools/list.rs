//! Doubly linked lists whose nodes are in one table, indexed by slot.
//!
//! A slot is in at most one list of its table at a time. No operation allocates, except to grow the table.
//! Removal takes constant time at any position: polls end in any order.

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The links of every slot; shared by any number of [`List`]s.
#[derive(Default)]
pub struct Links(Vec<Link>);

/// One list, oldest member at the front.
#[derive(Clone, Copy, Debug)]
pub struct List {
    front: u32,
    back: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        List { front: NIL, back: NIL, len: 0 }
    }
}

impl List {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The member that was pushed first.
    pub fn front(&self) -> Option<u32> {
        (self.front != NIL).then_some(self.front)
    }

    /// The member that was pushed last.
    pub fn back(&self) -> Option<u32> {
        (self.back != NIL).then_some(self.back)
    }

    /// The member pushed just before `slot`.
    pub fn before(&self, links: &Links, slot: u32) -> Option<u32> {
        let prev = links.0[slot as usize].prev;
        (prev != NIL).then_some(prev)
    }

    /// The member pushed just after `slot`.
    pub fn after(&self, links: &Links, slot: u32) -> Option<u32> {
        let next = links.0[slot as usize].next;
        (next != NIL).then_some(next)
    }

    /// Appends `slot`, which is in no list of this table.
    pub fn push_back(&mut self, links: &mut Links, slot: u32) {
        if slot as usize >= links.0.len() {
            links.0.resize(slot as usize + 1, Link { prev: NIL, next: NIL });
        }
        links.0[slot as usize] = Link { prev: self.back, next: NIL };
        if self.back == NIL {
            self.front = slot;
        } else {
            links.0[self.back as usize].next = slot;
        }
        self.back = slot;
        self.len += 1;
    }

    /// Removes `slot`, which is a member.
    pub fn remove(&mut self, links: &mut Links, slot: u32) {
        let Link { prev, next } = links.0[slot as usize];
        if prev == NIL {
            self.front = next;
        } else {
            links.0[prev as usize].next = next;
        }
        if next == NIL {
            self.back = prev;
        } else {
            links.0[next as usize].prev = prev;
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &List, links: &Links) -> Vec<u32> {
        std::iter::successors(list.front(), |slot| list.after(links, *slot)).collect()
    }

    #[test]
    fn keeps_the_order_when_members_are_removed() {
        let (mut links, mut list) = (Links::default(), List::default());
        for slot in [4, 0, 7, 2] {
            list.push_back(&mut links, slot);
        }
        list.remove(&mut links, 0);
        assert_eq!(members(&list, &links), [4, 7, 2]);
        list.remove(&mut links, 4);
        list.remove(&mut links, 2);
        assert_eq!((list.front(), list.back(), list.len()), (Some(7), Some(7), 1));
        list.remove(&mut links, 7);
        assert!(list.is_empty() && list.front().is_none() && list.back().is_none());
    }
}
