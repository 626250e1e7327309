//! Numbers, as they are written.

/// The length of the number (RFC 8259 section 6) that `bytes` start with; or how many of them could
/// start one, if none is whole. `01` starts with a number of length 1.
#[inline]
pub(in crate::broker) fn number_len(bytes: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let at_least_one = |from: usize| match digits(from) {
        0 => Err(from),
        count => Ok(from + count),
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => at_least_one(at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = at_least_one(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = at_least_one(at + 1 + sign)?;
    }
    Ok(at)
}
