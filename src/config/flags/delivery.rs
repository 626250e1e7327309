//! Flags about delivery: what confirms a run's delivery, and how long the broker waits for it.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::ranges::{at_most, time};
use super::show;
use super::typed::ServeFlags;
use crate::broker::settings::Confirm;
use crate::config::error::ConfigError;
use crate::config::values::{Count, Millis, name_of};

const ATTEMPTS_MAX: usize = u8::MAX as usize;

pub const FLAGS: &[&dyn AnyFlag] = &[&CONFIRM, &ACK_TIMEOUT, &READ_TIMEOUT, &MAX_ATTEMPTS, &DISPATCH_TIMEOUT];

pub static CONFIRM: Flag<Confirm> = Flag {
    name: "--confirm",
    variable: "PILOTLIGHT_CONFIRM",
    section: Section::Delivery,
    form: "PROOF",
    default: Preset::Value("read"),
    help: "When the broker answers a dispatch with true",
    details: "",
    accept: any,
    show: |config| name_of(config.settings.confirm),
};

pub static ACK_TIMEOUT: Flag<Millis> = Flag {
    name: "--ack-timeout",
    variable: "PILOTLIGHT_ACK_TIMEOUT",
    section: Section::Delivery,
    form: "DURATION",
    default: Preset::Value("300ms"),
    help: "Give up a runner whose kernel does not acknowledge a run within this time, and offer the run to the next runner",
    details: "300ms permits one lost packet, which is sent again after 200ms. Less than --dispatch-timeout.",
    accept: time,
    show: |config| show::millis(config.settings.ack_timeout_ms),
};

pub static READ_TIMEOUT: Flag<Millis> = Flag {
    name: "--read-timeout",
    variable: "PILOTLIGHT_READ_TIMEOUT",
    section: Section::Delivery,
    form: "DURATION",
    default: Preset::Value("1s"),
    help: "Give up a runner that does not read a run within this time after its kernel received it (--confirm read)",
    details: "Such a runner is stopped, paused, or stuck in its event loop. Less than --dispatch-timeout.",
    accept: time,
    show: |config| show::millis(config.settings.read_timeout_ms),
};

pub static MAX_ATTEMPTS: Flag<Count> = Flag {
    name: "--max-attempts",
    variable: "PILOTLIGHT_MAX_ATTEMPTS",
    section: Section::Delivery,
    form: "COUNT",
    default: Preset::Value("3"),
    help: "Delivery attempts per dispatch, each to another runner, before the broker answers false (1 to 255)",
    details: "",
    accept: |count| at_most(count, ATTEMPTS_MAX),
    show: |config| config.settings.attempts_max.to_string(),
};

pub static DISPATCH_TIMEOUT: Flag<Millis> = Flag {
    name: "--dispatch-timeout",
    variable: "PILOTLIGHT_DISPATCH_TIMEOUT",
    section: Section::Delivery,
    form: "DURATION",
    default: Preset::Value("2s"),
    help: "The broker answers every dispatch within this time",
    details: "The supervisor sets no timeout. The answer false costs a cold start, and is always safe.",
    accept: time,
    show: |config| show::millis(config.settings.dispatch_timeout_ms),
};

/// The value of `flag`. It must be less than `--dispatch-timeout`.
pub fn within_dispatch_ms(flags: &ServeFlags, flag: &Flag<Millis>) -> Result<u64, ConfigError> {
    let time = flags.get(flag)?;
    match time < flags.get(&DISPATCH_TIMEOUT)? {
        true => Ok(time.0),
        false => Err(flags.refuse(
            flag,
            &format!(
                "is not less than --dispatch-timeout ({}), so the dispatch would end first. Use a shorter time, or raise --dispatch-timeout.",
                flags.shown(&DISPATCH_TIMEOUT)
            ),
        )),
    }
}
