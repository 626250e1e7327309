//! `--token-mode` and where the secrets are: a file, which is read again on SIGHUP, or a variable.

use super::resolve::{ConfigError, refuse};
use crate::broker::settings::TokenMode;
use crate::broker::token::Secrets;
use crate::cli::{ServeFlags, token_mode_by_name};
use crate::sys::dumps;
use crate::sys::variables::{ENFORCEMENT, SecretVariable, TokenVariables};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// More than any rotation needs: every one of them is tried on every new token.
const SECRETS_MAX: usize = 16;
const FILE_BYTES_MAX: u64 = 64 << 10;
/// RFC 7518 section 3.2: a key of HS256 must not be shorter than its hash.
const SECRET_BYTES_WANTED: usize = 32;

/// What is done about deployment tokens, and with what.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// What is done.
    pub mode: TokenMode,
    /// Where the secrets are from; `None` where none are needed.
    pub source: Option<SecretSource>,
    /// What there is to be said about them at start.
    pub warnings: Vec<String>,
}

/// Where secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file: it can be read again.
    File(PathBuf),
    /// An environment variable, by this name: what it says, it says until the process ends.
    Variable(&'static str),
}

/// Secrets as they were found.
#[derive(Debug)]
pub struct Loaded {
    /// They themselves.
    pub secrets: Secrets,
    /// What is not as it should be, though it works.
    pub warnings: Vec<String>,
}

/// Why a file's secrets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("longer than {FILE_BYTES_MAX} bytes: that is no file of secrets")]
    TooLong,
    /// Nothing but line ends.
    #[error("no secret in it: write one on each line")]
    Empty,
    /// More than are tried.
    #[error("{0} secrets in it: at most {SECRETS_MAX}, of which a rotation needs two")]
    TooMany(usize),
    /// What an editor left, or half of a secret: not to be guessed.
    #[error("line {0} begins or ends with a blank: remove it")]
    Blank(usize),
}

/// Reads a file of secrets, one on each line. Empty lines don't count; a line end is LF or CR LF.
pub fn load(path: &Path) -> Result<Loaded, SecretsError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    // All the room at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(SecretsError::TooLong);
    }
    let mut loaded = parse(&text)?;
    const READ_BY_OTHERS: u32 = 0o004;
    if mode & READ_BY_OTHERS != 0 {
        loaded.warnings.push(format!(
            "{} may be read by every user of this machine: chmod o-r would end that",
            path.display()
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
    let short = secrets.iter().filter_map(|(number, line)| too_short(&format!("line {number}"), line));
    let warnings = short.collect();
    Ok(Loaded { secrets: Secrets::new(secrets.iter().map(|(_, line)| *line)), warnings })
}

fn too_short(place: &str, secret: &[u8]) -> Option<String> {
    (secret.len() < SECRET_BYTES_WANTED).then(|| {
        format!(
            "{place}: a secret of {} bytes can be guessed from one token: take {SECRET_BYTES_WANTED} random ones or more, such as from `openssl rand -hex 32`",
            secret.len()
        )
    })
}

/// Mode, source and secrets by flags and environment.
pub(super) fn resolve(
    flags: &ServeFlags,
    variables: TokenVariables,
) -> Result<(TokenConfig, Secrets), ConfigError> {
    let source = match (&flags.token_secret_file, &variables.secret) {
        (Some(path), _) => Some(SecretSource::File(path.clone())),
        (None, Some(SecretVariable { name, .. })) => Some(SecretSource::Variable(name)),
        (None, None) => None,
    };
    let mode = match (mode(flags, variables.enforcement)?, &source) {
        (Some(mode), _) => mode,
        (None, None) => TokenMode::Off,
        (None, Some(source)) => {
            return refuse(
                "--token-mode",
                "unset",
                format!(
                    "there is a secret ({}), but not what it is for: choose log, to see what would be refused, or enforce, or off",
                    source.named()
                ),
            );
        }
    };
    if let (TokenMode::Log | TokenMode::Enforce, Some(source)) = (mode, &source)
        && let Err(error) = dumps::forbid()
    {
        return refuse(
            "--token-mode",
            mode_name(mode),
            format!(
                "core dumps, which would hold the secret ({}), cannot be turned off: {error}",
                source.named()
            ),
        );
    }
    let loaded = match (mode, &source, variables.secret) {
        (TokenMode::Off, source, _) => {
            let unused = source
                .iter()
                .map(|source| format!("the secret is not used ({}): --token-mode is off", source.named()));
            Loaded { secrets: Secrets::default(), warnings: unused.collect() }
        }
        (_, Some(SecretSource::File(path)), _) => match load(path) {
            Ok(loaded) => loaded,
            Err(error) => return refuse("--token-secret-file", path.display(), error.to_string()),
        },
        (_, _, Some(SecretVariable { name, value })) => {
            let secrets = Secrets::new([value.as_slice()]);
            Loaded { secrets, warnings: too_short(name, &value).into_iter().collect() }
        }
        (mode, _, None) => {
            return refuse(
                "--token-mode",
                mode_name(mode),
                "needs the secret that the supervisor signs with: --token-secret-file, or PILOTLIGHT_TOKEN_SECRET or WORKLOAD_TOKEN_SECRET in the environment",
            );
        }
    };
    let source = source.filter(|_| mode != TokenMode::Off);
    Ok((TokenConfig { mode, source, warnings: loaded.warnings }, loaded.secrets))
}

const fn mode_name(mode: TokenMode) -> &'static str {
    match mode {
        TokenMode::Off => "off",
        TokenMode::Log => "log",
        TokenMode::Enforce => "enforce",
    }
}

fn mode(flags: &ServeFlags, enforcement: Option<String>) -> Result<Option<TokenMode>, ConfigError> {
    let choice = match (flags.token_mode, enforcement) {
        (Some(choice), _) => choice,
        (None, None) => return Ok(None),
        (None, Some(typed)) => match token_mode_by_name(&typed) {
            Some(choice) => choice,
            None => {
                return refuse(
                    ENFORCEMENT,
                    format_args!("{typed:?}"),
                    "choose one of disabled, log, enforce",
                );
            }
        },
    };
    Ok(Some(choice))
}

impl SecretSource {
    fn named(&self) -> String {
        match self {
            SecretSource::File(path) => format!("--token-secret-file {}", path.display()),
            SecretSource::Variable(name) => format!("{name} in the environment"),
        }
    }
}
