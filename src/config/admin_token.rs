//! The token of the admin side.

use std::fmt;
use std::fs;
use std::path::Path;

/// Shorter tokens can be guessed.
const BYTES_MIN: usize = 16;
/// Longer tokens do not fit beside the rest of a request's head.
const BYTES_MAX: usize = 4 << 10;

/// The token that an admin request must send to change something. Never shown.
#[derive(Clone)]
pub struct AdminToken(Box<[u8]>);

impl AdminToken {
    /// Reads the token from the file at `path`, without the white space around it.
    ///
    /// # Errors
    /// What is wrong with the file and what to do, as the rest of a sentence that begins with the path. It never shows
    /// the content.
    pub fn read(path: &Path) -> Result<AdminToken, String> {
        let content = fs::read(path)
            .map_err(|error| format!("cannot be read: {error}. Name a file that contains the token."))?;
        let token = content.trim_ascii();
        if !(BYTES_MIN..=BYTES_MAX).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
            return Err(format!(
                "does not contain a token of {BYTES_MIN} to {BYTES_MAX} printable ASCII characters without blanks. Create one with `openssl rand -hex 32`."
            ));
        }
        Ok(AdminToken(token.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}
