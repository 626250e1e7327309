//! The table of all flags.

use super::flag::AnyFlag;
use super::{
    advanced, delivery, limits, listeners, matching, monitoring, security, tcp, timeouts, tls, tokens,
    traces, workers,
};
use crate::config::serve_config::ServeConfig;

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

/// Every flag with its value in force, as it would be typed. `auto` is replaced by the chosen value.
pub fn in_force(config: &ServeConfig) -> Vec<(&'static str, String)> {
    all().into_iter().map(|flag| (flag.name(), flag.show(config))).collect()
}
