//! What tokens are signed with. Never printed, wiped when dropped.

use hmac::digest::MacError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// The secrets that a token may be signed with; one more than one while they are being rotated.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[Hmac<Sha256>]>);

impl Secrets {
    /// From the secrets' bytes, of which no copy is kept: only what HMAC derives from them.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // HMAC takes keys of any length (RFC 2104 section 2).
        let keyed = secrets.into_iter().filter_map(|secret| Hmac::new_from_slice(secret).ok());
        Secrets(keyed.collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is none: nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of the secrets signed `message` with HMAC-SHA-256. Compares in constant time, all 32 bytes: a
    /// signature of another length is none.
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

/// The very same ones; what they are is not compared.
impl PartialEq for Secrets {
    fn eq(&self, other: &Secrets) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Secrets {}
