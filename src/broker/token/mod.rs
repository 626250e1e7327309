//! Deployment tokens: the deployment of a poll, proven by a signature.
//!
//! A token is a JWT in compact form (RFC 7519, RFC 7515), HS256. The supervisor signs it into
//! `TRIGGER_DEPLOYMENT_ID`, and the runner sends it in place of the deployment's id. The input is bytes and
//! Unix time, the output a deployment or a fault.

mod cache;
mod claims;
pub mod fault;
pub mod gate;
mod secret;
#[cfg(test)]
pub(super) mod tests;

pub use fault::TOKEN_BYTES_MAX;
pub use secret::Secrets;

use crate::broker::json::{Value, each_member};
use ahash::RandomState;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cache::{Cache, Verified};
use claims::Claims;
use fault::{Fault, Part};
use std::sync::Arc;

/// Whether `value` has three non-empty parts separated by dots.
#[inline]
pub fn is_token_shaped(value: &str) -> bool {
    memchr::memchr(b'.', value.as_bytes()).is_some_and(|dot| has_three_parts(value, dot))
}

#[cold]
fn has_three_parts(value: &str, first_dot: usize) -> bool {
    let after = &value.as_bytes()[first_dot + 1..];
    let Some(second_dot) = memchr::memchr(b'.', after) else { return false };
    let last = &after[second_dot + 1..];
    first_dot > 0 && second_dot > 0 && !last.is_empty() && memchr::memchr(b'.', last).is_none()
}

/// The deployment for logs and reports. An id that may be or contain a token is replaced. A friendly id has no
/// dot, and does not begin like JSON in base64.
pub fn redacted(deployment: &str) -> &str {
    let is_id = memchr::memchr(b'.', deployment.as_bytes()).is_none() && !deployment.starts_with("ey");
    if is_id { deployment } else { "(a token)" }
}

/// Whether `value` starts like a token: its first part is a JSON object, whose opening brace encodes to `e` in
/// base64url. No friendly id starts with `e`.
#[inline]
pub fn starts_like_token(value: &str) -> bool {
    value.as_bytes().first() == Some(&b'e')
}

/// The deployment that a token names, without verification. `None` if `token` cannot be read as one.
pub fn unverified_deployment(token: &str) -> Option<Arc<str>> {
    if token.len() > TOKEN_BYTES_MAX || !starts_like_token(token) || !is_token_shaped(token) {
        return None;
    }
    let mut space = [0; TOKEN_BYTES_MAX];
    let payload = decode(token.split('.').nth(1)?, Part::Payload, &mut space).ok()?;
    Claims::deployment(payload).map(Arc::from)
}

/// The content of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The deployment's friendly id.
    pub deployment: Arc<str>,
    /// Microseconds of Unix time; expired from then on.
    pub expires_unix_us: u64,
}

/// Verifies tokens, and remembers valid ones.
pub struct Tokens {
    secrets: Secrets,
    cache: Cache,
    /// Tokens whose signature was computed.
    pub verifications: u64,
}

impl Tokens {
    /// Remembers at most `tokens_max` tokens.
    pub fn new(secrets: Secrets, hasher: RandomState, tokens_max: usize) -> Self {
        Tokens { secrets, cache: Cache::new(hasher, tokens_max), verifications: 0 }
    }

    /// Replaces the secrets and forgets all tokens: from now on only tokens signed with `secrets` are valid.
    pub fn replace_secrets(&mut self, secrets: Secrets) {
        self.secrets = secrets;
        self.cache.clear();
    }

    /// Checks a token against the poll's version and the time.
    ///
    /// # Errors
    /// The first fault found. Before the signature is verified, only `alg` and `crit` of the header are read.
    pub fn check(&mut self, value: &str, version: &str, unix_us: u64) -> Result<Admitted, Fault> {
        if !is_token_shaped(value) {
            return Err(Fault::Bare);
        }
        if let Some(verified) = self.cache.get(value) {
            return verified.admit(version, unix_us);
        }
        self.verify(value)?.admit(version, unix_us)
    }

    #[cold]
    fn verify(&mut self, token: &str) -> Result<Verified, Fault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        // The caller has checked that there are three parts.
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Bare)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Bare)?;
        let mut space = [0; TOKEN_BYTES_MAX];
        check_header(decode(header, Part::Header, &mut space)?)?;
        let signature = decode(signature, Part::Signature, &mut space)?;
        self.verifications += 1;
        if !self.secrets.signed(signed.as_bytes(), signature) {
            return Err(Fault::Signature);
        }
        let claims = Claims::read(decode(payload, Part::Payload, &mut space)?)?;
        let verified = Verified {
            deployment: claims.deployment.into(),
            deployment_version: claims.deployment_version.into(),
            expires_unix_us: claims.expires_unix_us,
            not_before_unix_us: claims.not_before_unix_us,
        };
        self.cache.insert(token, verified.clone());
        Ok(verified)
    }
}

impl Verified {
    fn admit(&self, version: &str, unix_us: u64) -> Result<Admitted, Fault> {
        if unix_us >= self.expires_unix_us {
            return Err(Fault::Expired);
        }
        if unix_us < self.not_before_unix_us {
            return Err(Fault::Claim(fault::Claim::Nbf, fault::ClaimFault::Value));
        }
        if *self.deployment_version != *version {
            return Err(Fault::OtherVersion);
        }
        Ok(Admitted { deployment: self.deployment.clone(), expires_unix_us: self.expires_unix_us })
    }
}

/// The header must have `alg` once, with HS256 (RFC 8725 section 3.1: the verifier chooses the algorithm, not the
/// token), and no `crit`. Other members do not change how the token is verified.
fn check_header(header: &[u8]) -> Result<(), Fault> {
    let (mut algorithms, mut is_hs256, mut is_text, mut has_extension) = (0, false, false, false);
    each_member(header, |name, value| match name {
        "alg" => {
            algorithms += 1;
            is_text = matches!(value, Value::Text(_));
            is_hs256 = matches!(value, Value::Text(text) if text == "HS256");
        }
        "crit" => has_extension = true,
        _ => {}
    })
    .map_err(|_| Fault::NotJson(Part::Header))?;
    match (algorithms, is_hs256) {
        (0, _) => Err(Fault::NoAlgorithm),
        (1, false) if !is_text => Err(Fault::NoAlgorithm),
        (1, false) => Err(Fault::OtherAlgorithm),
        (1, true) if has_extension => Err(Fault::Extension),
        (1, true) => Ok(()),
        _ => Err(Fault::RepeatedAlgorithm),
    }
}

/// Decodes base64url without padding. Refuses non-canonical encodings: unused bits would allow many spellings of
/// one token.
fn decode<'s>(text: &str, part: Part, space: &'s mut [u8; TOKEN_BYTES_MAX]) -> Result<&'s [u8], Fault> {
    let len = URL_SAFE_NO_PAD.decode_slice(text, space).map_err(|_| Fault::Encoding(part))?;
    Ok(&space[..len])
}
