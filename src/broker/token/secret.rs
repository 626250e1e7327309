//! The secrets that sign tokens. Never printed, wiped when dropped.

use hmac::digest::MacError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// The secrets with which a token may be signed: several during a rotation.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[Hmac<Sha256>]>);

impl Secrets {
    /// Keeps only what HMAC derives from the secrets' bytes.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // HMAC takes keys of any length (RFC 2104 section 2).
        let keyed = secrets.into_iter().filter_map(|secret| Hmac::new_from_slice(secret).ok());
        Secrets(keyed.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no secret; then no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the secrets signed `message` with HMAC-SHA-256. Compares all 32 bytes in constant time; a
    /// signature of another length is invalid.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = |keyed: &Hmac<Sha256>| -> Result<(), MacError> {
            keyed.clone().chain_update(message).verify_slice(signature)
        };
        self.0.iter().any(|keyed| verify(keyed).is_ok())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.len())
    }
}

/// Compares identity, not content.
impl PartialEq for Secrets {
    fn eq(&self, other: &Secrets) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Secrets {}
