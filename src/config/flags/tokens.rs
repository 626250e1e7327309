//! Flags about deployment tokens: what the broker does about them, and where their secrets are.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::ranges::at_most;
use super::typed::ServeFlags;
use crate::broker::settings::TokenMode;
use crate::broker::token::Secrets;
use crate::config::error::ConfigError;
use crate::config::serve_config::TokenConfig;
use crate::config::token_secrets::{self, Loaded, SecretSource};
use crate::config::values::{Count, Value, name_of};
use crate::sys::dumps;
use crate::sys::variables::{ENFORCEMENT, SecretVariable, TokenVariables};
use std::ffi::OsStr;
use std::path::PathBuf;

/// A verified token takes up to 4 KiB.
const TOKENS_MAX: usize = 1 << 20;

pub const FLAGS: &[&dyn AnyFlag] = &[&TOKEN_MODE, &TOKEN_SECRET_FILE, &MAX_TOKENS];

pub static TOKEN_MODE: Flag<TokenMode> = Flag {
    name: "--token-mode",
    variable: "PILOTLIGHT_TOKEN_MODE",
    section: Section::Tokens,
    form: "MODE",
    default: Preset::Unset("WORKLOAD_TOKEN_ENFORCEMENT, or off without a secret"),
    help: "How to treat deployment tokens",
    details: "Has the meaning of the supervisor's WORKLOAD_TOKEN_ENFORCEMENT, which applies if this flag is unset. With a secret, one of the two must be set. Begin with log, and change to enforce when the log reports no more faults.",
    accept: any,
    show: |config| name_of(config.tokens.mode),
};

pub static TOKEN_SECRET_FILE: Flag<PathBuf> = Flag {
    name: "--token-secret-file",
    variable: "PILOTLIGHT_TOKEN_SECRET_FILE",
    section: Section::Tokens,
    form: "PATH",
    default: Preset::Unset("PILOTLIGHT_TOKEN_SECRET or WORKLOAD_TOKEN_SECRET"),
    help: "A file with the secrets that tokens are signed with, one per line; SIGHUP reads it again",
    details: "Write the supervisor's WORKLOAD_TOKEN_SECRET into it; during a rotation, the old and the new one. Without the file, the broker takes one secret from the environment variable PILOTLIGHT_TOKEN_SECRET or WORKLOAD_TOKEN_SECRET. There is no flag for the secret itself, because every user of the machine can read a command line.",
    accept: any,
    // Where the secrets come from, never the secrets themselves.
    show: |config| match &config.tokens.source {
        Some(SecretSource::File(path)) => path.display().to_string(),
        Some(SecretSource::Variable(name)) => format!("from {name}"),
        None => "none".to_owned(),
    },
};

pub static MAX_TOKENS: Flag<Count> = Flag {
    name: "--max-tokens",
    variable: "PILOTLIGHT_MAX_TOKENS",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("4096"),
    help: "Verified tokens that each worker remembers",
    details: "A fleet has one token per deployment. Beyond the limit, workers forget tokens and verify them again, which takes some microseconds each.",
    accept: |count| at_most(count, TOKENS_MAX),
    show: |config| config.settings.tokens_max.to_string(),
};

/// Mode, source and secrets, from flags and environment.
pub fn resolve(flags: &ServeFlags, variables: TokenVariables) -> Result<(TokenConfig, Secrets), ConfigError> {
    let source = match (flags.find(&TOKEN_SECRET_FILE)?, &variables.secret) {
        (Some(path), _) => Some(SecretSource::File(path)),
        (None, Some(SecretVariable { name, .. })) => Some(SecretSource::Variable(name)),
        (None, None) => None,
    };
    let mode = mode(flags, variables.enforcement.as_deref(), source.as_ref())?;
    if mode == TokenMode::Off {
        let unused = source
            .iter()
            .map(|source| format!("{} is not used, because --token-mode is off", describe(source)));
        return Ok((TokenConfig { mode, source: None, warnings: unused.collect() }, Secrets::default()));
    }
    let Loaded { secrets, warnings } = load(flags, mode, source.as_ref(), variables.secret)?;
    Ok((TokenConfig { mode, source, warnings }, secrets))
}

fn mode(
    flags: &ServeFlags,
    enforcement: Option<&str>,
    source: Option<&SecretSource>,
) -> Result<TokenMode, ConfigError> {
    if let Some(mode) = flags.find(&TOKEN_MODE)? {
        return Ok(mode);
    }
    match (enforcement, source) {
        (Some(typed), _) => TokenMode::read(OsStr::new(typed)).map_err(|_| {
            let problem = "is not a valid choice. Use one of disabled, log, enforce.";
            ConfigError::of_value(ENFORCEMENT, None, OsStr::new(typed), problem)
        }),
        (None, None) => Ok(TokenMode::Off),
        (None, Some(source)) => Err(flags.refuse(
            &TOKEN_MODE,
            &format!(
                "unset, although there is a secret ({}). Use log to report invalid tokens, enforce to refuse them, or off.",
                describe(source)
            ),
        )),
    }
}

fn load(
    flags: &ServeFlags,
    mode: TokenMode,
    source: Option<&SecretSource>,
    variable: Option<SecretVariable>,
) -> Result<Loaded, ConfigError> {
    if let Some(source) = source
        && let Err(error) = dumps::forbid()
    {
        let problem = format!(
            "cannot be used, because core dumps would contain the secret ({}) and cannot be turned off: {error}.",
            describe(source)
        );
        return Err(TOKEN_MODE.refuse(name_of(mode), &problem));
    }
    match (source, variable) {
        (Some(SecretSource::File(path)), _) => token_secrets::load(path)
            .map_err(|error| flags.refuse(&TOKEN_SECRET_FILE, &format!("{error}."))),
        (_, Some(SecretVariable { name, value })) => Ok(token_secrets::from_variable(name, &value)),
        (_, None) => Err(TOKEN_MODE.refuse(
            name_of(mode),
            "needs the secret that the supervisor signs tokens with. Set --token-secret-file, or PILOTLIGHT_TOKEN_SECRET or WORKLOAD_TOKEN_SECRET in the environment.",
        )),
    }
}

fn describe(source: &SecretSource) -> String {
    match source {
        SecretSource::File(path) => format!("{} {}", TOKEN_SECRET_FILE.name, path.display()),
        SecretSource::Variable(name) => format!("{name} in the environment"),
    }
}
