//! Flags about TCP sockets: the accept queue, and how the kernel notices dead peers.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::ranges::{at_most, time_or_zero};
use super::show;
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::values::{Count, Millis};
use crate::sys::tcp::TcpOptions;

/// The kernel's limit for TCP_KEEPIDLE and TCP_KEEPINTVL.
const KEEPALIVE_MAX_S: u64 = 32_767;
/// The kernel's limit for TCP_KEEPCNT.
const KEEPALIVE_COUNT_MAX: usize = 127;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&TCP_USER_TIMEOUT, &TCP_KEEPALIVE_IDLE, &TCP_KEEPALIVE_INTERVAL, &TCP_KEEPALIVE_COUNT, &BACKLOG];

pub static TCP_USER_TIMEOUT: Flag<Millis> = Flag {
    name: "--tcp-user-timeout",
    variable: "PILOTLIGHT_TCP_USER_TIMEOUT",
    section: Section::DeadPeers,
    form: "DURATION",
    default: Preset::Value("8s"),
    help: "Close a connection whose peer has not acknowledged sent bytes for this long (TCP_USER_TIMEOUT)",
    details: "0s: the kernel's default.",
    accept: time_or_zero,
    show: |config| show::millis(config.tcp.user_timeout_ms.into()),
};

pub static TCP_KEEPALIVE_IDLE: Flag<Millis> = Flag {
    name: "--tcp-keepalive-idle",
    variable: "PILOTLIGHT_TCP_KEEPALIVE_IDLE",
    section: Section::DeadPeers,
    form: "DURATION",
    default: Preset::Value("4s"),
    help: "Send the first keep-alive probe after this much silence, in whole seconds (TCP_KEEPIDLE)",
    details: "",
    accept: whole_seconds,
    show: |config| show::millis(u64::from(config.tcp.keepalive_idle_s) * 1_000),
};

pub static TCP_KEEPALIVE_INTERVAL: Flag<Millis> = Flag {
    name: "--tcp-keepalive-interval",
    variable: "PILOTLIGHT_TCP_KEEPALIVE_INTERVAL",
    section: Section::DeadPeers,
    form: "DURATION",
    default: Preset::Value("2s"),
    help: "The time between two keep-alive probes, in whole seconds (TCP_KEEPINTVL)",
    details: "",
    accept: whole_seconds,
    show: |config| show::millis(u64::from(config.tcp.keepalive_interval_s) * 1_000),
};

pub static TCP_KEEPALIVE_COUNT: Flag<Count> = Flag {
    name: "--tcp-keepalive-count",
    variable: "PILOTLIGHT_TCP_KEEPALIVE_COUNT",
    section: Section::DeadPeers,
    form: "COUNT",
    default: Preset::Value("2"),
    help: "Close a connection after this many unanswered keep-alive probes, 1 to 127 (TCP_KEEPCNT)",
    details: "",
    accept: |count| at_most(count, KEEPALIVE_COUNT_MAX),
    show: |config| config.tcp.keepalive_count.to_string(),
};

pub static BACKLOG: Flag<Count> = Flag {
    name: "--backlog",
    variable: "PILOTLIGHT_BACKLOG",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("65535"),
    help: "Connections that may queue for each worker to accept them",
    details: "After a restart a whole fleet reconnects within a second. The kernel caps this number at the sysctl net.core.somaxconn; if it does, the log warns.",
    accept: any,
    show: |config| config.tcp.backlog.to_string(),
};

fn whole_seconds(time: &Millis) -> Result<(), String> {
    match time.0.is_multiple_of(1_000) && (1..=KEEPALIVE_MAX_S).contains(&(time.0 / 1_000)) {
        true => Ok(()),
        false => Err(format!("is out of range. Use whole seconds from 1s to {KEEPALIVE_MAX_S}s.")),
    }
}

pub fn resolve(flags: &ServeFlags) -> Result<TcpOptions, ConfigError> {
    let seconds = |flag| flags.get(flag).map(|Millis(ms)| (ms / 1_000) as u32);
    Ok(TcpOptions {
        backlog: flags.get(&BACKLOG)?.0.min(i32::MAX as usize) as u32,
        user_timeout_ms: flags.get(&TCP_USER_TIMEOUT)?.0 as u32,
        keepalive_idle_s: seconds(&TCP_KEEPALIVE_IDLE)?,
        keepalive_interval_s: seconds(&TCP_KEEPALIVE_INTERVAL)?,
        keepalive_count: flags.get(&TCP_KEEPALIVE_COUNT)?.0 as u32,
    })
}
