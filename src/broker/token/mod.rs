//! Deployment tokens: which deployment a poll is really for.
//!
//! A token is a JWT in compact form (RFC 7519, RFC 7515), HS256, that the supervisor signs into
//! `TRIGGER_DEPLOYMENT_ID`; the runner sends it as `x-trigger-deployment-id`. Bytes and Unix time in,
//! a deployment or a fault out.

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

/// A value of three non-empty parts with dots between them; what else could be in them is not asked.
#[inline]
pub fn is_token_shaped(value: &str) -> bool {
    memchr::memchr(b'.', value.as_bytes()).is_some_and(|dot| has_three_parts(value, dot))
}

#[cold]
fn has_three_parts(value: &str, first_dot: usize) -> bool {
    let behind = &value.as_bytes()[first_dot + 1..];
    let Some(second_dot) = memchr::memchr(b'.', behind) else { return false };
    let last = &behind[second_dot + 1..];
    first_dot > 0 && second_dot > 0 && !last.is_empty() && memchr::memchr(b'.', last).is_none()
}

/// A deployment's name as it may be shown. What could not be read may be a token all the same, or hold
/// one; a friendly id has no dot, and does not begin as JSON does in base64.
pub fn redacted(deployment: &str) -> &str {
    let is_name = memchr::memchr(b'.', deployment.as_bytes()).is_none() && !deployment.starts_with("ey");
    if is_name { deployment } else { "(a token)" }
}

/// Whether a token that begins so could be one: the first part is a JSON object, whose brace is `e` in
/// base64url. A friendly id begins otherwise.
#[inline]
pub fn starts_like_token(value: &str) -> bool {
    value.as_bytes().first() == Some(&b'e')
}

/// The deployment that a token names, whoever made it. `None` if it is none, or can't be read.
pub fn unverified_deployment(token: &str) -> Option<Arc<str>> {
    if token.len() > TOKEN_BYTES_MAX || !starts_like_token(token) || !is_token_shaped(token) {
        return None;
    }
    let mut space = [0; TOKEN_BYTES_MAX];
    let payload = decode(token.split('.').nth(1)?, Part::Payload, &mut space).ok()?;
    Claims::deployment(payload).map(Arc::from)
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The deployment's friendly id.
    pub deployment: Arc<str>,
    /// From then on the token is expired. Microseconds of Unix time.
    pub expires_unix_us: u64,
}

/// Verifies tokens, and remembers those that are good.
pub struct Tokens {
    secrets: Secrets,
    cache: Cache,
    /// Signatures computed and compared, once per secret or not.
    pub verifications: u64,
}

impl Tokens {
    /// With nothing remembered; at most `tokens_max` will be.
    pub fn new(secrets: Secrets, hasher: RandomState, tokens_max: usize) -> Self {
        Tokens { secrets, cache: Cache::new(hasher, tokens_max), verifications: 0 }
    }

    /// From here on only these count.
    pub fn replace_secrets(&mut self, secrets: Secrets) {
        self.secrets = secrets;
        self.cache.clear();
    }

    /// Checks the value of `x-trigger-deployment-id` against that of `x-trigger-deployment-version` and
    /// the time.
    ///
    /// # Errors
    /// The first fault found. Nothing of a token is read before its signature is known to be right, but
    /// the `alg` and `crit` of its header.
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
        // Three parts: that is its shape.
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

/// `alg` once, and HS256 (RFC 8725 section 3.1: the algorithm is ours to choose, not the token's); no
/// `crit`. Whatever else a header may say changes nothing about how it is verified.
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

/// Base64url without padding. Not canonical is refused too: spare bits would make many tokens of one.
fn decode<'s>(text: &str, part: Part, space: &'s mut [u8; TOKEN_BYTES_MAX]) -> Result<&'s [u8], Fault> {
    let len = URL_SAFE_NO_PAD.decode_slice(text, space).map_err(|_| Fault::Encoding(part))?;
    Ok(&space[..len])
}
