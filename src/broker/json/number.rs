//! Numbers.

use std::hash::{Hash, Hasher};

/// A finite number. `-0` equals `0`; otherwise two are equal if and only if their 64-bit floats are.
#[derive(Clone, Copy, Debug)]
pub struct Number(f64);

impl Number {
    /// Reads JSON's number grammar (RFC 8259 section 6), which is also all that JavaScript's
    /// `String(number)` prints for finite numbers: `0.5`, `1e+21`, `1e-7`.
    ///
    /// `None` for anything else (white space, `+1`, `.5`, `0x1`, `Infinity`, `NaN`, nothing) and for a
    /// number that does not fit a 64-bit float (`1e999`). One that is too small becomes 0.
    #[inline]
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Number> {
        let text = text.as_ref();
        match short_decimal(text) {
            Some(value) => Some(Number(value)),
            None => Number::parse_any(text),
        }
    }

    #[cold]
    fn parse_any(text: &[u8]) -> Option<Number> {
        if number_len(text) != Ok(text.len()) {
            return None;
        }
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        // -0 + 0 is 0.
        value.is_finite().then_some(Number(value + 0.0))
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

/// Reads up to 16 digits, or 15 and a point, without exponent and sign. The value is one integer or the
/// quotient of two exact integers, both correctly rounded. `None` for any other text.
#[inline]
fn short_decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 15] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let mut digits = 0u64;
    let mut point = None;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() && at > 0 => point = Some(at),
            _ => return None,
        }
    }
    let integer_len = point.unwrap_or(text.len());
    let fraction_len = match point {
        Some(at) if at + 1 == text.len() => return None,
        Some(at) => text.len() - at - 1,
        None => 0,
    };
    let leading_zero = text[0] == b'0' && integer_len > 1;
    if leading_zero {
        return None;
    }
    Some(digits as f64 / POWERS[fraction_len])
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.to_bits());
    }
}

/// The length of the number (RFC 8259 section 6) at the start of `bytes`. `Err`: the length of an
/// incomplete number. `01` starts with a number of length 1.
#[inline]
pub(super) fn number_len(bytes: &[u8]) -> Result<usize, usize> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn equal_numbers_in_different_spellings() {
        for same in [
            &["0.5", "0.50", "5e-1", "5E-1", "0.05e1", "50e-2", "5000000000000000000e-19"][..],
            &["0", "-0", "0.0", "-0.0", "0e5", "-0e-9", "1e-999"],
            &["1", "1.0", "1e0", "10e-1", "1.000000000000000000000000"],
            &["1e21", "1e+21", "1000000000000000000000", "1E21"],
            &["1e-7", "0.0000001", "1E-07"],
        ] {
            for text in same {
                assert_eq!(number(text), number(same[0]), "{text}");
            }
        }
        assert_ne!(number("0.1"), number("0.10000000000000002"));
        assert_ne!(number("1"), number("-1"));
        assert_eq!(number("0.25").get(), 0.25);
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            " ",
            " 1",
            "1 ",
            "+1",
            ".5",
            "1.",
            "01",
            "00",
            "-",
            "--1",
            "-.5",
            "1e",
            "1e+",
            "1e1.5",
            "0x10",
            "1_000",
            "1,5",
            "Infinity",
            "-Infinity",
            "NaN",
            "inf",
            "nan",
            "null",
            "1e999",
            "-1e999",
            "1\0",
            "１",
            "0.5\n",
            "1.5.2",
            "..",
            "0.",
            "00.5",
            "1f64",
            "\"1\"",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_every_float_as_the_standard_library_does(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.3}")] {
                let expected = text.parse::<f64>().unwrap() + 0.0;
                let parsed = number(&text).get();
                prop_assert_eq!(parsed.to_bits(), expected.to_bits(), "{}", text);
            }
        }

        #[test]
        fn reads_short_decimals(text in "(0|[1-9][0-9]{0,16})(\\.[0-9]{1,16})?") {
            let expected = text.parse::<f64>().unwrap();
            prop_assert_eq!(number(&text).get().to_bits(), expected.to_bits());
        }

        #[test]
        fn trailing_zeros_and_exponents_do_not_matter(
            digits in 0u64..1_000_000_000,
            scale in 0usize..8,
            zeros in 0usize..12,
        ) {
            let exponent = format!("{digits}e-{scale}");
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (integer, fraction) = digits.split_at(digits.len() - scale);
            let zeros = "0".repeat(zeros + 1);
            let plain = format!("{integer}.{fraction}{zeros}");
            prop_assert_eq!(number(&plain), number(&exponent));
        }

        #[test]
        fn accepts_only_json_numbers(text in "[-+0-9.eE ]{0,8}") {
            let ours = Number::parse(&text).map(Number::get);
            // serde_json's fast number parsing may be off in the last bit: 3E34.
            let is_json = text.trim() == text && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            let value = text.parse::<f64>().ok().filter(|value| is_json && value.is_finite());
            prop_assert_eq!(ours, value.map(|value| value + 0.0));
        }
    }
}
