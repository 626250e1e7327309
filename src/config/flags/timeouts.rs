//! Flags about time: how long connections may take, and how long a shutdown takes.

use super::flag::{AnyFlag, Flag, Preset, Section};
use super::matching::CONNECTION_TIMEOUT;
use super::ranges::{auto_time, time, time_or_zero};
use super::show;
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::values::{Auto, Millis};

/// Runners and supervisors close an idle connection after this.
const CLIENT_IDLE_MS: u64 = 4_000;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&REQUEST_TIMEOUT, &IDLE_TIMEOUT, &PRECONNECT_TIMEOUT, &WRITE_TIMEOUT, &SHUTDOWN_TIME];

pub static REQUEST_TIMEOUT: Flag<Millis> = Flag {
    name: "--request-timeout",
    variable: "PILOTLIGHT_REQUEST_TIMEOUT",
    section: Section::Timeouts,
    form: "DURATION",
    default: Preset::Value("30s"),
    help: "A client must send a whole request within this time after its first byte",
    details: "",
    accept: time,
    show: |config| show::millis(config.settings.request_timeout_ms),
};

pub static IDLE_TIMEOUT: Flag<Millis> = Flag {
    name: "--idle-timeout",
    variable: "PILOTLIGHT_IDLE_TIMEOUT",
    section: Section::Timeouts,
    form: "DURATION",
    default: Preset::Value("60s"),
    help: "Close a connection that has carried no request for this long since its last one",
    details: "Above 4s: clients close their idle connections after 4s, and would otherwise send a request while the broker closes.",
    accept: |idle| {
        match idle.0 > CLIENT_IDLE_MS {
        true => time(idle),
        false => Err("is too short. Use a duration above 4s, after which clients close idle connections themselves: a shorter time would close a connection on which a client is sending.".to_owned()),
    }
    },
    show: |config| show::millis(config.settings.idle_timeout_ms),
};

pub static PRECONNECT_TIMEOUT: Flag<Auto<Millis>> = Flag {
    name: "--preconnect-timeout",
    variable: "PILOTLIGHT_PRECONNECT_TIMEOUT",
    section: Section::Timeouts,
    form: "DURATION",
    default: Preset::Value("auto"),
    help: "Close a connection that has not sent its first byte within this time",
    details: "Runners open the connection of their next poll one poll ahead. auto: 2.5 times --connection-timeout plus 5s.",
    accept: auto_time,
    show: |config| show::millis(config.settings.preconnect_timeout_ms),
};

pub static WRITE_TIMEOUT: Flag<Millis> = Flag {
    name: "--write-timeout",
    variable: "PILOTLIGHT_WRITE_TIMEOUT",
    section: Section::Timeouts,
    form: "DURATION",
    default: Preset::Value("10s"),
    help: "Close a connection whose client does not read a response within this time",
    details: "Does not apply to the delivery of a run: see --ack-timeout and --read-timeout.",
    accept: time,
    show: |config| show::millis(config.settings.write_timeout_ms),
};

pub static SHUTDOWN_TIME: Flag<Millis> = Flag {
    name: "--shutdown-time",
    variable: "PILOTLIGHT_SHUTDOWN_TIME",
    section: Section::Timeouts,
    form: "DURATION",
    default: Preset::Value("5s"),
    help: "After SIGTERM, the broker closes the held polls one by one over this time",
    details: "",
    accept: time_or_zero,
    show: |config| show::millis(config.settings.shutdown_time_ms),
};

pub fn preconnect_ms(flags: &ServeFlags) -> Result<u64, ConfigError> {
    match flags.get(&PRECONNECT_TIMEOUT)? {
        Auto::Auto => Ok(flags.get(&CONNECTION_TIMEOUT)?.0 * 5 / 2 + 5_000),
        Auto::Set(time) => Ok(time.0),
    }
}
