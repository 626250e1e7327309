//! The secrets that deployment tokens are signed with: where they come from, and how their file is read.

use crate::broker::token::Secrets;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A rotation needs two. Every secret is tried on every new token.
const SECRETS_MAX: usize = 16;
const FILE_BYTES_MAX: u64 = 64 << 10;
/// RFC 7518 section 3.2: a key of HS256 must not be shorter than its hash.
const SECRET_BYTES_WANTED: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// SIGHUP reads it again.
    File(PathBuf),
    /// An environment variable of this name. It is read once, at start.
    Variable(&'static str),
}

#[derive(Debug)]
pub struct Loaded {
    pub secrets: Secrets,
    /// Weaknesses of the secrets that do not prevent their use.
    pub warnings: Vec<String>,
}

/// Why a file's secrets cannot be used: the rest of a sentence that begins with the file's path.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is longer than {FILE_BYTES_MAX} bytes. Name a file with one secret per line")]
    TooLong,
    #[error("contains no secret. Write one secret per line")]
    Empty,
    #[error("contains {0} secrets. Use at most {SECRETS_MAX}: a rotation needs two")]
    TooMany(usize),
    /// An editor may have added the blank, or it may belong to the secret.
    #[error("has a blank at the start or end of line {0}. Remove the blank")]
    Blank(usize),
}

/// Reads a file with one secret per line. A line ends with LF or CR LF. Empty lines are ignored.
pub fn load(path: &Path) -> Result<Loaded, SecretsError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    // The whole capacity at once: a buffer that grows leaves copies of the secrets in freed memory.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(SecretsError::TooLong);
    }
    let mut loaded = parse(&text)?;
    const READ_BY_OTHERS: u32 = 0o004;
    if mode & READ_BY_OTHERS != 0 {
        loaded.warnings.push(format!(
            "every user of this machine can read {path}. Run chmod o-r {path}",
            path = path.display()
        ));
    }
    Ok(loaded)
}

fn parse(text: &[u8]) -> Result<Loaded, SecretsError> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let secrets: Vec<(usize, &[u8])> =
        lines.enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.is_empty()).collect();
    if let Some((number, _)) = secrets.iter().find(|(_, line)| line.trim_ascii() != *line) {
        return Err(SecretsError::Blank(*number));
    }
    match secrets.len() {
        0 => return Err(SecretsError::Empty),
        count @ ..=SECRETS_MAX => count,
        count => return Err(SecretsError::TooMany(count)),
    };
    let short = secrets.iter().filter_map(|(number, line)| warn_if_short(&format!("line {number}"), line));
    let warnings = short.collect();
    Ok(Loaded { secrets: Secrets::new(secrets.iter().map(|(_, line)| *line)), warnings })
}

/// Secrets from an environment variable, which holds one.
pub fn from_variable(name: &str, secret: &[u8]) -> Loaded {
    let warnings = warn_if_short(name, secret).into_iter().collect();
    Loaded { secrets: Secrets::new([secret]), warnings }
}

fn warn_if_short(place: &str, secret: &[u8]) -> Option<String> {
    (secret.len() < SECRET_BYTES_WANTED).then(|| {
        format!(
            "{place}: a secret of {} bytes can be guessed from one token. Use at least {SECRET_BYTES_WANTED} random bytes, for example from `openssl rand -hex 32`",
            secret.len()
        )
    })
}
