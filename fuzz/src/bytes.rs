//! Choices from a fuzzer's bytes. After the last byte, every choice is 0.

/// The rest of an input.
pub struct Bytes<'d>(pub &'d [u8]);

impl<'d> Bytes<'d> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub fn chance(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn take(&mut self, len: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Lengths of pieces from one seed: 1 byte to a few hundred, mostly short.
pub fn pieces(mut seed: u64) -> impl Iterator<Item = usize> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bits = (seed >> 33) as usize;
        1 + (bits >> 8) % (1 << (bits % 9))
    })
}
