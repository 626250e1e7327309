//! Finds the bytes that may end a string, 64 bytes at a time.

use wide::i8x16;

/// Bytes per step: the result has one bit of a `u64` for each.
pub(crate) const BLOCK: usize = 64;

/// A bit for each special byte among the first [`BLOCK`] of `text`, the first byte in the lowest bit. Positions
/// after the end of a shorter text count as special.
///
/// Special bytes are those that a string of plain ASCII without escapes does not contain: quotes, backslashes,
/// control characters and non-ASCII bytes.
#[inline(never)]
pub(super) fn specials(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(block) => specials_in(block),
        None => specials_in_last(text),
    }
}

/// A separate function, because a text has only one such block.
#[inline(never)]
fn specials_in_last(text: &[u8]) -> u64 {
    specials_in(&padded(text))
}

/// Like [`specials`], but non-ASCII bytes are not special.
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

/// Padded with NULs, which are special.
#[inline(always)]
fn padded(text: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..text.len()].copy_from_slice(text);
    block
}

#[inline(always)]
fn specials_in(block: &[u8; BLOCK]) -> u64 {
    // With this bit flipped, the quote is less than every other printable character, so all bytes not above it
    // are special. Non-ASCII bytes are negative, so they are special too.
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

/// The parts that one instruction compares, with their offsets.
#[inline(always)]
fn parts(block: &[u8; BLOCK]) -> impl Iterator<Item = (usize, i8x16)> {
    let parts = block.as_chunks::<16>().0.iter();
    parts.enumerate().map(|(index, part)| (16 * index, i8x16::new(part.map(|byte| byte as i8))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(text: &[u8], is_special: impl Fn(u8) -> bool) -> u64 {
        let specials = (0..BLOCK).filter(|&at| text.get(at).is_none_or(|&byte| is_special(byte)));
        specials.fold(0, |all, at| all | 1 << at)
    }

    fn compare_with_naive(text: &[u8]) {
        let in_utf8 = |byte| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        assert_eq!(specials_of_utf8(text), naive(text, in_utf8), "{}", text.escape_ascii());
        let in_ascii = |byte| in_utf8(byte) || byte >= 0x80;
        assert_eq!(specials(text), naive(text, in_ascii), "{}", text.escape_ascii());
    }

    #[test]
    fn agrees_with_naive_on_every_byte_at_every_position() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                // Bytes after the block do not matter.
                let mut text = [b'"'; BLOCK + 1];
                text[..BLOCK].fill(b'a');
                text[at] = byte;
                compare_with_naive(&text);
                compare_with_naive(&text[..=at]);
            }
            compare_with_naive(&[byte; BLOCK]);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_naive_on_any_bytes(text in prop::collection::vec(prop_oneof![
            4 => any::<u8>(), 6 => b' '..=b'~', 1 => Just(b'"'), 1 => Just(b'\\'),
            1 => 0x1eu8..=0x23, 1 => 0x5bu8..=0x5e, 1 => 0x7eu8..=0x81,
        ], 0..2 * BLOCK)) {
            compare_with_naive(&text);
        }
    }
}
