//! The open containers while a value is skipped.

/// A bit for each open container, the innermost in the lowest bit: 1 for an object. Allocates from the 64th on.
pub(super) struct Containers<'o> {
    /// A 1 marks the end, above the highest of them.
    bits: u64,
    /// The outer containers, 63 per element. Borrowed, because a field with a destructor would keep the others
    /// out of registers.
    outer: &'o mut Vec<u64>,
}

impl<'o> Containers<'o> {
    /// No open container. `outer` must be empty, and is empty again once all containers are closed.
    #[inline(always)]
    pub(super) fn new(outer: &'o mut Vec<u64>) -> Self {
        Containers { bits: 1, outer }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, is_object: bool) {
        if self.bits >> 63 == 1 {
            self.outer.push(self.bits);
            self.bits = 1;
        }
        self.bits = self.bits << 1 | u64::from(is_object);
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.bits == 1
    }

    #[inline(always)]
    pub(super) fn innermost_is_object(&self) -> bool {
        self.bits & 1 == 1
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) {
        self.bits >>= 1;
        if self.bits == 1 {
            self.bits = self.outer.pop().unwrap_or(1);
        }
    }
}
