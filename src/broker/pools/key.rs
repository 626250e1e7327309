//! The key, which a run and a runner must have in common: deployment, version and machine size.

use crate::broker::json::Number;
use crate::broker::token::redacted;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// A key, borrowed from a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The deployment's friendly id.
    pub deployment: &'a str,
    /// The background worker's version.
    pub version: &'a str,
    /// In vCPUs.
    pub cpu: Number,
    /// In GB.
    pub memory: Number,
}

impl<'a> KeyRef<'a> {
    /// The hash under the caller's seed, which must be random, because clients choose the keys.
    ///
    /// Different keys never feed the hasher the same bytes: the length of the first text precedes it,
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

    /// The deployment for logs and reports, without a token.
    pub fn redacted_deployment(self) -> &'a str {
        redacted(self.deployment)
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

    pub fn to_key(&self) -> Key {
        let text = [self.deployment, self.version].concat().into();
        Key { text, version_at: self.deployment.len(), cpu: self.cpu, memory: self.memory }
    }
}

/// An owned key: 40 bytes and its text, which clones share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The deployment, then the version.
    text: Arc<str>,
    version_at: usize,
    cpu: Number,
    memory: Number,
}

impl Key {
    #[inline]
    #[allow(clippy::should_implement_trait)] // AsRef returns a reference, this method a value.
    pub fn as_ref(&self) -> KeyRef<'_> {
        let (deployment, version) = self.text.split_at(self.version_at);
        KeyRef { deployment, version, cpu: self.cpu, memory: self.memory }
    }
}

/// For logs. Redacts a token, which is a credential.
impl fmt::Debug for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyRef { deployment, version, cpu, memory } = self;
        let mut key = f.debug_struct("Key");
        key.field("deployment", &redacted(deployment)).field("version", version);
        key.field("cpu", &cpu.get()).field("memory", &memory.get()).finish()
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
    fn the_boundary_between_the_texts_counts() {
        let one = key("a", "bc", "1", "2");
        let other = key("ab", "c", "1", "2");
        assert_ne!(one, other);
        assert_ne!(one.to_key(), other.to_key());
        assert_ne!(one.hash(&state()), other.hash(&state()));
    }

    #[test]
    fn every_field_counts() {
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
    fn key_is_at_most_40_bytes() {
        assert!(size_of::<Key>() <= 40);
    }

    /// Records the bytes that it is fed.
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
        fn keys_are_equal_if_and_only_if_their_parts_are(one in parts(), other in parts()) {
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
        fn the_hasher_sees_the_boundary_between_the_texts(text in "[ab\0]{1,12}", at in 0usize..12) {
            let (deployment, version) = text.split_at(at.min(text.len() - 1));
            let key_of = |deployment, version| key(deployment, version, "1", "2");
            let fed = transcript(key_of(deployment, version));
            for other in (0..=text.len()).filter(|other| *other != deployment.len()) {
                let (deployment, version) = text.split_at(other);
                prop_assert_ne!(&transcript(key_of(deployment, version)), &fed);
            }
        }
    }
}
