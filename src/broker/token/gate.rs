//! Checks the tokens of polls against the clock, and keeps a sample of invalid ones for the log.

use super::fault::{Fault, FaultSample};
use super::{Secrets, Tokens, redacted, unverified_deployment};
use crate::broker::time::Time;
use ahash::RandomState;
use std::sync::Arc;

/// Samples are limited because each costs some copies, and a forger could cause one with every poll.
const SAMPLE_EVERY_US: u64 = 1_000_000;
/// Longer than the names that Trigger.dev gives deployments and nodes.
const SAMPLE_CHARS_MAX: usize = 64;

/// One worker's token checks.
pub struct TokenGate {
    tokens: Tokens,
    /// Unix time at the origin of [`Time`], according to the last clock reading.
    unix_us_at_origin: u64,
    sample: Option<Box<FaultSample>>,
}

impl TokenGate {
    /// Remembers at most `tokens_max` verified tokens.
    pub fn new(secrets: Secrets, hasher: RandomState, tokens_max: usize) -> Self {
        TokenGate { tokens: Tokens::new(secrets, hasher, tokens_max), unix_us_at_origin: 0, sample: None }
    }

    /// The wall clock reads `unix_us` at `now`.
    pub fn set_clock(&mut self, now: Time, unix_us: u64) {
        self.unix_us_at_origin = unix_us.saturating_sub(now.0);
    }

    /// From now on, only tokens signed with these secrets are valid.
    pub fn replace_secrets(&mut self, secrets: Secrets) {
        self.tokens.replace_secrets(secrets);
    }

    /// Verifies a token. Returns the deployment, and when the token expires.
    ///
    /// # Errors
    /// The token's first fault.
    pub fn check(&mut self, now: Time, token: &str, version: &str) -> Result<(Arc<str>, Time), Fault> {
        let unix_us = self.unix_us_at_origin.saturating_add(now.0);
        let verified = self.tokens.check(token, version, unix_us)?;
        let expires = Time(verified.expires_unix_us.saturating_sub(self.unix_us_at_origin));
        Ok((verified.deployment, expires))
    }

    /// Keeps a sample of polls with invalid tokens, at most one per second. `deployment` may be a token.
    pub fn sample_fault(&mut self, now: Time, fault: Fault, deployment: &str, node: &str) {
        let is_recent = |sample: &FaultSample| now.us_since(sample.at) < SAMPLE_EVERY_US;
        if self.sample.as_deref().is_some_and(is_recent) {
            return;
        }
        let shortened = |text: &str| text.chars().take(SAMPLE_CHARS_MAX).collect();
        let unverified = unverified_deployment(deployment);
        let deployment = shortened(redacted(unverified.as_deref().unwrap_or(deployment)));
        self.sample = Some(Box::new(FaultSample { at: now, fault, deployment, node: shortened(node) }));
    }

    pub fn last_sample(&self) -> Option<&FaultSample> {
        self.sample.as_deref()
    }

    pub fn verifications(&self) -> u64 {
        self.tokens.verifications
    }
}
