//! The flags of `pilotlight serve`.
//!
//! To add a flag, define it in the file of its subject and add it to the `FLAGS` of that file. The help, completions,
//! man page, environment variable, error messages, docs/reference/settings.md (written by a test) and `/api/settings`
//! follow from the definition.
//!
//! - [`flag`]: what a flag consists of; [`typed`]: the flags of one start; [`command`]: to and from clap.
//! - [`ranges`], [`show`]: shared parts of definitions.
//! - One file per subject: its flags, and how they become a part of [`super::ServeConfig`].

pub mod advanced;
mod command;
pub mod delivery;
mod flag;
pub mod limits;
pub mod listeners;
pub mod matching;
pub mod monitoring;
mod ranges;
pub mod security;
mod show;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod timeouts;
pub mod tls;
pub mod tokens;
pub mod traces;
mod typed;
pub mod workers;

pub use command::{SEE_ADVANCED, add_to, show_advanced};
pub use flag::{AnyFlag, Flag, Preset, Section};
pub use typed::ServeFlags;

use super::serve_config::ServeConfig;

/// The flags of each subject.
const SUBJECTS: &[&[&dyn AnyFlag]] = &[
    listeners::FLAGS,
    security::FLAGS,
    tls::FLAGS,
    tokens::FLAGS,
    workers::FLAGS,
    matching::FLAGS,
    delivery::FLAGS,
    limits::FLAGS,
    timeouts::FLAGS,
    tcp::FLAGS,
    monitoring::FLAGS,
    traces::FLAGS,
    advanced::FLAGS,
];

/// Every flag, in the order of the help.
pub fn all() -> Vec<&'static dyn AnyFlag> {
    let mut flags: Vec<&dyn AnyFlag> = SUBJECTS.iter().flat_map(|flags| flags.iter().copied()).collect();
    flags.sort_by_key(|flag| flag.section());
    flags
}

/// Every flag with its value in force, as it would be typed; `auto` replaced by the value that was chosen.
pub fn in_force(config: &ServeConfig) -> Vec<(&'static str, String)> {
    all().into_iter().map(|flag| (flag.name(), flag.show(config))).collect()
}
