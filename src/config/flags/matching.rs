//! Flags about matching: how long polls are held, and which one gets a run.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::show;
use super::typed::ServeFlags;
use crate::broker::settings::MatchOrder;
use crate::config::error::ConfigError;
use crate::config::values::{Auto, Millis, name_of};

/// The runners' HTTP client gives up on any answer after this.
const CONNECTION_TIMEOUT_LIMIT_MS: u64 = 300_000;
/// Above it, the runners' setTimeout overflows.
const SET_TIMEOUT_MAX_MS: u64 = i32::MAX as u64;

pub const FLAGS: &[&dyn AnyFlag] = &[&CONNECTION_TIMEOUT, &KEEPALIVE, &MATCH_ORDER, &GUARD];

pub static CONNECTION_TIMEOUT: Flag<Millis> = Flag {
    name: "--connection-timeout",
    variable: "PILOTLIGHT_CONNECTION_TIMEOUT",
    section: Section::Matching,
    form: "DURATION",
    default: Preset::Value("30s"),
    help: "How long a runner holds one poll; the broker tells runners in /connect",
    details: "Above 0s and below 300s: after 300s the runners' HTTP client gives up on any answer.",
    accept: |time| {
        match (1..CONNECTION_TIMEOUT_LIMIT_MS).contains(&time.0) {
        true => Ok(()),
        false => Err("is out of range. Use a duration above 0s and below 300s, such as 30s: after 300s the runners' HTTP client gives up.".to_owned()),
    }
    },
    show: |config| show::millis(config.settings.connection_timeout_ms),
};

pub static KEEPALIVE: Flag<Millis> = Flag {
    name: "--keepalive",
    variable: "PILOTLIGHT_KEEPALIVE",
    section: Section::Matching,
    form: "DURATION",
    default: Preset::Value("5m"),
    help: "How long an idle runner polls before it exits; the broker tells runners in /connect",
    details: "",
    accept: |time| match (1..=SET_TIMEOUT_MAX_MS).contains(&time.0) {
        true => Ok(()),
        false => Err(format!(
            "is out of range. Use a duration from 1ms to {SET_TIMEOUT_MAX_MS}ms (24 days), such as 5m: above it the runners' timer overflows."
        )),
    },
    show: |config| show::millis(config.settings.keepalive_ms),
};

pub static MATCH_ORDER: Flag<MatchOrder> = Flag {
    name: "--match-order",
    variable: "PILOTLIGHT_MATCH_ORDER",
    section: Section::Matching,
    form: "ORDER",
    default: Preset::Value("newest"),
    help: "Which of a key's polls the broker matches first",
    details: "Runners renew their polls every --connection-timeout, so the order says nothing about how long a runner has been idle.",
    accept: any,
    show: |config| name_of(config.settings.match_order),
};

pub static GUARD: Flag<Auto<Millis>> = Flag {
    name: "--guard",
    variable: "PILOTLIGHT_GUARD",
    section: Section::Matching,
    form: "DURATION",
    default: Preset::Value("auto"),
    help: "Do not offer a run to a poll with less time left than this",
    details: "The runner's own timer started earlier than the broker's. Less than --connection-timeout. auto: 500ms or a tenth of --connection-timeout, whichever is less. 0s: no guard.",
    accept: any,
    show: |config| show::millis(config.settings.guard_ms),
};

pub fn guard_ms(flags: &ServeFlags) -> Result<u64, ConfigError> {
    let connection_timeout = flags.get(&CONNECTION_TIMEOUT)?;
    match flags.get(&GUARD)? {
        Auto::Auto => Ok((connection_timeout.0 / 10).min(500)),
        Auto::Set(guard) if guard.0 < connection_timeout.0 => Ok(guard.0),
        Auto::Set(_) => Err(flags.refuse(
            &GUARD,
            &format!(
                "is not less than --connection-timeout ({}), so no poll would ever be offered a run. Use a shorter guard.",
                flags.shown(&CONNECTION_TIMEOUT)
            ),
        )),
    }
}
