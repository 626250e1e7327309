//! What a run and a waiting runner must have in common: deployment, version and machine.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use super::json::number_len;
use super::token::shown;

/// A finite number. `-0` is `0`; else equal exactly if the machine's 64-bit floats are.
#[derive(Clone, Copy, Debug)]
pub struct Number(f64);

impl Number {
    /// Reads JSON's number grammar (RFC 8259 section 6), which is also all that JavaScript's
    /// `String(number)` prints for finite numbers: `0.5`, `1e+21`, `1e-7`.
    ///
    /// `None` for anything else (white space, `+1`, `.5`, `0x1`, `Infinity`, `NaN`, nothing) and
    /// for what no 64-bit float holds (`1e999`). What is too small for one is 0.
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

    /// The number as a float.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// Up to 16 digits or 15 and a point, no exponent, no sign: one integer, rounded correctly, or a
/// division of two exact ones, rounded correctly. `None`: not such a number; perhaps another.
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

/// A key, borrowed from a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The deployment's friendly id.
    pub deployment: &'a str,
    /// The background worker's version.
    pub version: &'a str,
    /// vCPUs of the machine.
    pub cpu: Number,
    /// GB of the machine.
    pub memory: Number,
}

impl<'a> KeyRef<'a> {
    /// The hash under the caller's seed, which must be random: what is hashed is the clients'.
    ///
    /// Different keys never feed the hasher the same bytes: the first text's length goes before it,
    /// and 16 bytes of numbers end the second.
    #[inline]
    pub fn hash(&self, state: &ahash::RandomState) -> u64 {
        let mut hasher = state.build_hasher();
        self.feed(&mut hasher);
        hasher.finish()
    }

    #[inline]
    fn feed(&self, hasher: &mut impl Hasher) {
        hasher.write_u64(self.deployment.len() as u64);
        hasher.write(self.deployment.as_bytes());
        hasher.write(self.version.as_bytes());
        self.cpu.hash(hasher);
        self.memory.hash(hasher);
    }

    /// The deployment as it may be shown: what may be a token is not.
    pub fn shown_deployment(self) -> &'a str {
        super::token::shown(self.deployment)
    }

    /// The hashes of the deployment, and of deployment and version, under the caller's seed.
    pub fn relation_hashes(&self, state: &ahash::RandomState) -> [u64; 2] {
        let mut hasher = state.build_hasher();
        hasher.write_u64(self.deployment.len() as u64);
        hasher.write(self.deployment.as_bytes());
        let deployment = hasher.finish();
        hasher.write(self.version.as_bytes());
        [deployment, hasher.finish()]
    }

    /// An owned copy.
    pub fn to_key(&self) -> Key {
        let text = [self.deployment, self.version].concat().into();
        Key { text, version_at: self.deployment.len(), cpu: self.cpu, memory: self.memory }
    }
}

/// A key, owned: 40 bytes and its text, which clones share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The deployment, then the version.
    text: Arc<str>,
    version_at: usize,
    cpu: Number,
    memory: Number,
}

impl Key {
    /// The key as requests are compared with it.
    #[inline]
    #[allow(clippy::should_implement_trait)] // AsRef returns references, this a value.
    pub fn as_ref(&self) -> KeyRef<'_> {
        let (deployment, version) = self.text.split_at(self.version_at);
        KeyRef { deployment, version, cpu: self.cpu, memory: self.memory }
    }
}

/// For logs. A token, which is a credential, is not shown.
impl fmt::Debug for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyRef { deployment, version, cpu, memory } = self;
        let mut shown_key = f.debug_struct("Key");
        shown_key.field("deployment", &shown(deployment)).field("version", version);
        shown_key.field("cpu", &cpu.get()).field("memory", &memory.get()).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> ahash::RandomState {
        ahash::RandomState::with_seeds(1, 2, 3, 4)
    }

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    fn key<'a>(deployment: &'a str, version: &'a str, cpu: &str, memory: &str) -> KeyRef<'a> {
        KeyRef { deployment, version, cpu: number(cpu), memory: number(memory) }
    }

    #[test]
    fn spellings_of_one_number() {
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
    fn not_numbers() {
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

    #[test]
    fn where_a_string_ends_matters() {
        let one = key("a", "bc", "1", "2");
        let other = key("ab", "c", "1", "2");
        assert_ne!(one, other);
        assert_ne!(one.to_key(), other.to_key());
        assert_ne!(one.hash(&state()), other.hash(&state()));
    }

    #[test]
    fn each_field_counts() {
        let base = key("deployment_a", "20260101.1", "0.5", "1");
        for other in [
            key("deployment_b", "20260101.1", "0.5", "1"),
            key("deployment_a", "20260101.2", "0.5", "1"),
            key("deployment_a", "20260101.1", "1", "1"),
            key("deployment_a", "20260101.1", "0.5", "0.5"),
            key("deployment_a", "20260101.1", "1", "0.5"),
        ] {
            assert_ne!(base, other);
            assert_ne!(base.hash(&state()), other.hash(&state()));
        }
        let seeded = ahash::RandomState::with_seeds(5, 6, 7, 8);
        assert_ne!(base.hash(&state()), base.hash(&seeded));
    }

    #[test]
    fn a_key_is_compact() {
        assert!(size_of::<Key>() <= 40);
    }

    /// Keeps what it is fed.
    #[derive(Default)]
    struct Transcript(Vec<u8>);

    impl Hasher for Transcript {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }

    fn transcript(key: KeyRef<'_>) -> Vec<u8> {
        let mut transcript = Transcript::default();
        key.feed(&mut transcript);
        transcript.0
    }

    type Parts = (String, String, f64, f64);

    fn parts() -> impl Strategy<Value = Parts> {
        // Few letters and lengths, so that concatenations collide.
        let text = "[ab\0]{0,4}";
        let size = prop::sample::select(vec![0.0, 0.25, 0.5, 1.0, 2.0, -1.0, 1e21]);
        (text, text, size.clone(), size)
    }

    fn borrowed(parts: &Parts) -> KeyRef<'_> {
        KeyRef {
            deployment: &parts.0,
            version: &parts.1,
            cpu: number(&format!("{}", parts.2)),
            memory: number(&format!("{:e}", parts.3)),
        }
    }

    proptest! {
        #[test]
        fn equal_exactly_if_their_parts_are(one in parts(), other in parts()) {
            let (a, b) = (borrowed(&one), borrowed(&other));
            let same = one == other;
            prop_assert_eq!(a == b, same);
            prop_assert_eq!(a.to_key() == b.to_key(), same);
            prop_assert_eq!(a.hash(&state()) == b.hash(&state()), same);
            prop_assert_eq!(transcript(a) == transcript(b), same);
            let owned = a.to_key();
            prop_assert_eq!(owned.as_ref(), a);
        }

        #[test]
        fn the_hasher_sees_where_a_string_ends(text in "[ab\0]{1,12}", at in 0usize..12) {
            let (deployment, version) = text.split_at(at.min(text.len() - 1));
            let key_of = |deployment, version| key(deployment, version, "1", "2");
            let fed = transcript(key_of(deployment, version));
            for other in (0..=text.len()).filter(|other| *other != deployment.len()) {
                let (deployment, version) = text.split_at(other);
                prop_assert_ne!(&transcript(key_of(deployment, version)), &fed);
            }
        }

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
        fn short_decimals_too(text in "(0|[1-9][0-9]{0,16})(\\.[0-9]{1,16})?") {
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
        fn never_more_than_json_allows(text in "[-+0-9.eE ]{0,8}") {
            let ours = Number::parse(&text).map(Number::get);
            // serde_json's own quick reading may be off in the last bit: 3E34.
            let is_json = text.trim() == text && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            let value = text.parse::<f64>().ok().filter(|value| is_json && value.is_finite());
            prop_assert_eq!(ours, value.map(|value| value + 0.0));
        }
    }
}
