//! Flags about metrics, the page and the log.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::ranges::at_most;
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::serve_config::{LogConfig, Watching};
use crate::config::values::{Count, LogFormat, Value, name_of, text};
use std::ffi::OsStr;

/// The page and the metrics become unusable beyond this.
pub const WATCHED_MAX: usize = 10_000;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&METRICS_DEPLOYMENTS, &RECENT_DISPATCHES, &SAMPLED_DISPATCHES, &LOG_FORMAT, &LOG_LEVEL];

pub static METRICS_DEPLOYMENTS: Flag<Count> = Flag {
    name: "--metrics-deployments",
    variable: "PILOTLIGHT_METRICS_DEPLOYMENTS",
    section: Section::Monitoring,
    form: "COUNT",
    default: Preset::Value("100"),
    help: "Deployments with a separate sample in /metrics; the others share one",
    details: "",
    accept: |count| at_most(count, WATCHED_MAX),
    show: |config| config.watching.metrics_deployments.to_string(),
};

pub static RECENT_DISPATCHES: Flag<Count> = Flag {
    name: "--recent-dispatches",
    variable: "PILOTLIGHT_RECENT_DISPATCHES",
    section: Section::Monitoring,
    form: "COUNT",
    default: Preset::Value("500"),
    help: "Answered dispatches that the broker remembers for the page and /api/dispatches",
    details: "",
    accept: |count| at_most(count, WATCHED_MAX),
    show: |config| config.watching.recent_dispatches.to_string(),
};

pub static SAMPLED_DISPATCHES: Flag<Count> = Flag {
    name: "--sampled-dispatches",
    variable: "PILOTLIGHT_SAMPLED_DISPATCHES",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("50"),
    help: "Dispatches that each worker reports per second while no client watches",
    details: "The broker counts all dispatches, and remembers those that a worker reports, for the page and /api/dispatches. While a page is open, each worker reports at least 1000 per second; with the log at debug, all.",
    accept: |count| at_most(count, WATCHED_MAX),
    show: |config| config.watching.sampled_dispatches.to_string(),
};

pub static LOG_FORMAT: Flag<LogFormat> = Flag {
    name: "--log-format",
    variable: "PILOTLIGHT_LOG_FORMAT",
    section: Section::Logging,
    form: "FORMAT",
    default: Preset::Value("text"),
    help: "The form of log lines, which go to standard error",
    details: "",
    accept: any,
    show: |config| name_of(config.log.format),
};

pub static LOG_LEVEL: Flag<LogFilter> = Flag {
    name: "--log-level",
    variable: "PILOTLIGHT_LOG_LEVEL",
    section: Section::Logging,
    form: "LEVEL",
    default: Preset::Value("info"),
    help: "off, error, warn, info or debug; or levels of modules, such as info,pilotlight::control=debug",
    details: "",
    accept: any,
    show: |config| config.log.filter.clone(),
};

/// A level, or directives such as `info,pilotlight::control=debug`.
#[derive(Debug)]
pub struct LogFilter(String);

impl Value for LogFilter {
    fn read(typed: &OsStr) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_level = |word: &str| LEVELS.contains(&word.trim().to_ascii_lowercase().as_str());
        let typed = text(typed)?;
        let is_filter = typed.split(',').all(|directive| match directive.split_once('=') {
            Some((module, word)) => !module.trim().is_empty() && is_level(word),
            None => is_level(directive),
        });
        match is_filter {
            true => Ok(LogFilter(typed.to_owned())),
            false => Err("is not a log level. Use off, error, warn, info or debug, or levels of modules such as info,pilotlight::control=debug.".to_owned()),
        }
    }
}

pub fn watching(flags: &ServeFlags) -> Result<Watching, ConfigError> {
    Ok(Watching {
        metrics_deployments: flags.get(&METRICS_DEPLOYMENTS)?.0,
        recent_dispatches: flags.get(&RECENT_DISPATCHES)?.0,
        sampled_dispatches: flags.get(&SAMPLED_DISPATCHES)?.0 as u32,
    })
}

pub fn log(flags: &ServeFlags) -> Result<LogConfig, ConfigError> {
    Ok(LogConfig { format: flags.get(&LOG_FORMAT)?, filter: flags.get(&LOG_LEVEL)?.0 })
}
