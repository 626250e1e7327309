//! Where a string may end: looked for in 64 bytes at a time.

use wide::i8x16;

/// Bytes looked at in one step, for the answer is a bit of a `u64` for each.
pub(in crate::broker) const BLOCK: usize = 64;

/// Where the specials are in the first [`BLOCK`] bytes of `text`: a bit each, the first byte's lowest.
/// A text that is shorter has more of them, behind its last byte.
///
/// Special is what a string that is all ASCII and has no escapes does not hold: quotes, backslashes,
/// control characters and what is not ASCII.
#[inline(never)]
pub(super) fn specials(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(block) => specials_in(block),
        None => specials_in_last(text),
    }
}

/// Kept apart, for a text has one such block.
#[inline(never)]
fn specials_in_last(text: &[u8]) -> u64 {
    specials_in(&padded(text))
}

/// The same, but what is not ASCII is not special.
#[inline(never)]
pub(super) fn specials_of_utf8(text: &[u8]) -> u64 {
    let last;
    let block = match text.first_chunk() {
        Some(block) => block,
        None => {
            last = padded(text);
            &last
        }
    };
    let mut specials = specials_in(block);
    for (at, part) in parts(block) {
        specials &= !(u64::from(part.to_bitmask()) << at);
    }
    specials
}

/// NULs are special.
#[inline(always)]
fn padded(text: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..text.len()].copy_from_slice(text);
    block
}

#[inline(always)]
fn specials_in(block: &[u8; BLOCK]) -> u64 {
    // With this bit flipped, the quote is less than any other printable character: what is not above
    // it is special. So is, as a negative number, what is not ASCII.
    const FLIP: i8 = 0x02;
    let mut plain = 0;
    for (at, part) in parts(block) {
        let part = part ^ i8x16::splat(FLIP);
        let is_above = part.simd_gt(i8x16::splat(b'"' as i8 ^ FLIP));
        let is_backslash = part.simd_eq(i8x16::splat(b'\\' as i8 ^ FLIP));
        plain |= u64::from((is_above & !is_backslash).to_bitmask()) << at;
    }
    !plain
}

/// What is compared in one instruction, and where it is.
#[inline(always)]
fn parts(block: &[u8; BLOCK]) -> impl Iterator<Item = (usize, i8x16)> {
    let parts = block.as_chunks::<16>().0.iter();
    parts.enumerate().map(|(index, part)| (16 * index, i8x16::new(part.map(|byte| byte as i8))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Byte by byte.
    fn naive(text: &[u8], is_special: impl Fn(u8) -> bool) -> u64 {
        let specials = (0..BLOCK).filter(|&at| text.get(at).is_none_or(|&byte| is_special(byte)));
        specials.fold(0, |all, at| all | 1 << at)
    }

    fn hold_against_naive(text: &[u8]) {
        let in_utf8 = |byte| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        assert_eq!(specials_of_utf8(text), naive(text, in_utf8), "{}", text.escape_ascii());
        let in_ascii = |byte| in_utf8(byte) || byte >= 0x80;
        assert_eq!(specials(text), naive(text, in_ascii), "{}", text.escape_ascii());
    }

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                // What is behind the block does not matter.
                let mut text = [b'"'; BLOCK + 1];
                text[..BLOCK].fill(b'a');
                text[at] = byte;
                hold_against_naive(&text);
                hold_against_naive(&text[..=at]);
            }
            hold_against_naive(&[byte; BLOCK]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text in prop::collection::vec(prop_oneof![
            4 => any::<u8>(), 6 => b' '..=b'~', 1 => Just(b'"'), 1 => Just(b'\\'),
            1 => 0x1eu8..=0x23, 1 => 0x5bu8..=0x5e, 1 => 0x7eu8..=0x81,
        ], 0..2 * BLOCK)) {
            hold_against_naive(&text);
        }
    }
}
