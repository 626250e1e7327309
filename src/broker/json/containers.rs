//! Which containers are open.

/// The open containers, a bit each, the innermost lowest: 1 for an object. Allocates from the 64th on.
pub(super) struct Containers<'o> {
    /// Above the highest of them stands a 1.
    bits: u64,
    /// Those further out, 63 each. Elsewhere, for what has a destructor keeps others out of registers.
    outer: &'o mut Vec<u64>,
}

impl<'o> Containers<'o> {
    /// None. `outer` must be empty, and is again once all are closed.
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
