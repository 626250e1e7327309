//! `traceparent`, the header field of W3C Trace Context, which supervisors send with a dispatch.

/// The first `traceparent` in a well-formed request head, if it is valid.
#[cold]
pub fn traceparent_of(head: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"traceparent:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line =
        lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    traceparent(line[NAME.len()..].trim_ascii())
}

/// `value` if it is a valid `traceparent`: version, trace id, parent id and flags in lower-case hex, neither id
/// all zero (W3C Trace Context, 3.2.2). Fields that later versions append are cut off.
fn traceparent(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value.get(..55)?).ok()?;
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sound = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_end_valid = match value.get(55) {
        None => true,
        Some(next) => version != "00" && *next == b'-',
    };
    (sound && version != "ff" && !zero(trace) && !zero(parent) && is_end_valid).then_some(text)
}

/// Whether the flags of a well-formed `traceparent` say that its trace is recorded (W3C Trace Context,
/// 3.2.2.5: the lowest bit).
pub fn is_sampled(traceparent: &str) -> bool {
    matches!(traceparent.as_bytes().get(54), Some(b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_taken() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good.as_bytes()), Some(good));
        let later = format!("cc{}-what-comes", &good[2..]);
        assert_eq!(traceparent(later.as_bytes()), Some(&later[..55]));
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("{good}x"),
            &good.to_uppercase(),
            &good.replace("01", "0g"),
            &format!("ff{}", &good[2..]),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
            &good.replace('-', "_"),
            "00-0af7651916cd43dd8448eb211c80319c\u{e9}b7ad6b7169203331-01-0",
        ] {
            assert_eq!(traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_lowest_flag_means_sampled() {
        let with = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        for (flags, sampled) in
            [("00", false), ("01", true), ("02", false), ("03", true), ("fe", false), ("ff", true)]
        {
            assert_eq!(is_sampled(&with(flags)), sampled, "{flags}");
        }
    }
}
