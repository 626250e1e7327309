//! Strings are skipped sixteen bytes at a time.

use wide::u8x16;

/// Bytes looked at in one step.
const BLOCK: usize = 16;

/// Behind a string's opening quote: what is behind its closing one, if it has no escape. `None`: it
/// has one, or is no string; [`skip_plain`] tells how far it is plain.
#[inline(always)]
pub(super) fn behind_plain_string(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>() {
        let found = specials(*block);
        if found != 0 {
            let at = found.trailing_zeros() as usize;
            return (rest[at] == b'"').then(|| &rest[at + 1..]);
        }
        rest = behind;
    }
    skip_plain_slowly(rest).strip_prefix(b"\"")
}

/// What is left of `bytes` from the first quote, backslash or control character on; nothing if
/// there is none.
pub(super) fn skip_plain(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>() {
        let found = specials(*block);
        if found != 0 {
            return &rest[found.trailing_zeros() as usize..];
        }
        rest = behind;
    }
    skip_plain_slowly(rest)
}

/// The same, byte by byte: for the last few of a body.
#[inline(never)]
fn skip_plain_slowly(bytes: &[u8]) -> &[u8] {
    let is_special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < b' ';
    let len = bytes.iter().position(is_special).unwrap_or(bytes.len());
    &bytes[len..]
}

/// A bit per byte, the first one's lowest: quotes, backslashes and control characters.
#[inline(always)]
fn specials(block: [u8; BLOCK]) -> u16 {
    let block = u8x16::new(block);
    let quotes = block.simd_eq(u8x16::splat(b'"'));
    let backslashes = block.simd_eq(u8x16::splat(b'\\'));
    let controls = block.min(u8x16::splat(b' ' - 1)).simd_eq(block);
    (quotes | backslashes | controls).to_bitmask() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=u8::MAX {
            let is_special = matches!(byte, b'"' | b'\\' | 0..=0x1f);
            for at in 0..40 {
                let mut bytes = [b'a'; 40];
                bytes[at] = byte;
                // What comes behind it does not matter.
                bytes[39] = b'"';
                let expected = if is_special { at } else { 39 };
                assert_eq!(skip_plain(&bytes).len(), 40 - expected, "{byte} at {at}");
                let alone = &bytes[..=at];
                let expected = if is_special || at == 39 { 1 } else { 0 };
                assert_eq!(skip_plain(alone).len(), expected, "{byte} at the end, {at}");
                for text in [&bytes[..], alone] {
                    let expected = skip_plain(text).strip_prefix(b"\"");
                    assert_eq!(behind_plain_string(text), expected, "{byte} at {at}");
                }
            }
        }
    }
}
