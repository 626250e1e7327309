//! Flags about limits: connections, polls, keys, bytes.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::ranges::{at_most, size};
use super::show;
use super::typed::ServeFlags;
use crate::broker::settings::ConnectionLimit;
use crate::config::error::ConfigError;
use crate::config::values::{Auto, Bytes, Count, Limit};
use crate::sys::Machine;

/// Connections of the admin side. Beyond the limit, the oldest is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Descriptors that a worker needs besides connections: poller, wakers, listeners and their spares.
const DESCRIPTORS_PER_WORKER: usize = 8;
/// Other descriptors of the process: standard streams, runtime, log, service manager.
const DESCRIPTORS_BASE: usize = 32;
/// A connection's index has 24 bits.
const CONNECTIONS_MAX: usize = 1 << 24;
/// The budget for bytes in flight, unless bodies or workers need more.
const BUFFERED_BYTES: usize = 128 << 20;
/// Workers lease the budget in steps of 256 KiB, and each may keep two steps.
const BUFFERED_BYTES_PER_WORKER: usize = 1 << 20;
/// A body and the response made from it must fit beside other requests.
const BUFFERED_BODIES: usize = 4;

pub const FLAGS: &[&dyn AnyFlag] = &[
    &MAX_CONNECTIONS,
    &MAX_CONNECTIONS_PER_ADDRESS,
    &MAX_POLLS_PER_DEPLOYMENT,
    &MAX_POLLS_PER_KEY,
    &MAX_BUFFERED,
    &MAX_KEYS,
    &MAX_BODY,
    &MAX_HEAD,
    &MAX_PIPELINED,
];

pub static MAX_CONNECTIONS: Flag<Auto<Count>> = Flag {
    name: "--max-connections",
    variable: "PILOTLIGHT_MAX_CONNECTIONS",
    section: Section::Limits,
    form: "COUNT",
    default: Preset::Value("auto"),
    help: "Open connections of all workers together",
    details: "An idle runner holds 2 sockets, and 3 at its peak. Half of the limit is divided among the workers; any worker may use the other half. auto: what the limit of open files permits. At start, the broker raises the soft limit of open files to the hard one; to go beyond, raise the hard limit (`ulimit -Hn`, LimitNOFILE in a systemd unit).",
    accept: |auto| match auto {
        Auto::Set(count) => at_most(count, CONNECTIONS_MAX),
        Auto::Auto => Ok(()),
    },
    show: |config| config.connections_max.to_string(),
};

pub static MAX_CONNECTIONS_PER_ADDRESS: Flag<Limit> = Flag {
    name: "--max-connections-per-address",
    variable: "PILOTLIGHT_MAX_CONNECTIONS_PER_ADDRESS",
    section: Section::Limits,
    form: "COUNT",
    default: Preset::Value("off"),
    help: "Open connections of one IPv4 address or IPv6 /64, on all workers together; or off",
    details: "The broker closes a connection beyond the limit. Behind NAT or a proxy, a whole fleet has one address: leave it off there. Where each node has its own address, use a few times the number of sockets of a node's runners.",
    accept: any,
    show: |config| show::limit(config.settings.connections_per_address_max as usize, u32::MAX as usize),
};

pub static MAX_POLLS_PER_DEPLOYMENT: Flag<Limit> = Flag {
    name: "--max-polls-per-deployment",
    variable: "PILOTLIGHT_MAX_POLLS_PER_DEPLOYMENT",
    section: Section::Limits,
    form: "COUNT",
    default: Preset::Value("off"),
    help: "Held polls of one deployment, of all versions and machine sizes, per worker; or off",
    details: "The broker closes a poll beyond the limit.",
    accept: any,
    show: |config| show::limit(config.settings.polls_per_deployment_max, usize::MAX),
};

pub static MAX_POLLS_PER_KEY: Flag<Limit> = Flag {
    name: "--max-polls-per-key",
    variable: "PILOTLIGHT_MAX_POLLS_PER_KEY",
    section: Section::Limits,
    form: "COUNT",
    default: Preset::Value("off"),
    help: "Held polls of one key (deployment, version, machine size), per worker; or off",
    details: "The broker closes a poll beyond the limit.",
    accept: any,
    show: |config| show::limit(config.settings.polls_per_key_max, usize::MAX),
};

pub static MAX_BUFFERED: Flag<Auto<Bytes>> = Flag {
    name: "--max-buffered",
    variable: "PILOTLIGHT_MAX_BUFFERED",
    section: Section::Limits,
    form: "SIZE",
    default: Preset::Value("auto"),
    help: "Bytes in flight of all workers together: incomplete requests, and runs that are not delivered yet",
    details: "Incomplete requests may use three quarters of it. Beyond that, the broker answers them 503, or closes the connection if the request may be a poll. Beyond the whole limit, it answers complete dispatches with false. auto: 128MiB, or 4 times --max-body, or 1MiB per worker, whichever is most.",
    accept: any,
    show: |config| config.settings.buffered_bytes_max.to_string(),
};

pub static MAX_KEYS: Flag<Count> = Flag {
    name: "--max-keys",
    variable: "PILOTLIGHT_MAX_KEYS",
    section: Section::Limits,
    form: "COUNT",
    default: Preset::Value("65536"),
    help: "Distinct keys (deployment, version, machine size) that each worker remembers",
    details: "",
    accept: |count| at_most(count, CONNECTIONS_MAX),
    show: |config| config.settings.keys_max.to_string(),
};

pub static MAX_BODY: Flag<Bytes> = Flag {
    name: "--max-body",
    variable: "PILOTLIGHT_MAX_BODY",
    section: Section::Limits,
    form: "SIZE",
    default: Preset::Value("16MiB"),
    help: "The size of a request's body; the broker answers a larger dispatch 413",
    details: "",
    accept: |bytes| size(bytes, 1 << 10, 1 << 30),
    show: |config| config.settings.body_bytes_max.to_string(),
};

pub static MAX_HEAD: Flag<Bytes> = Flag {
    name: "--max-head",
    variable: "PILOTLIGHT_MAX_HEAD",
    section: Section::Limits,
    form: "SIZE",
    default: Preset::Value("16KiB"),
    help: "The size of a request's line and header fields together; the broker answers a larger request 431",
    details: "",
    accept: |bytes| size(bytes, 1 << 10, 1 << 20),
    show: |config| config.settings.head_bytes_max.to_string(),
};

pub static MAX_PIPELINED: Flag<Bytes> = Flag {
    name: "--max-pipelined",
    variable: "PILOTLIGHT_MAX_PIPELINED",
    section: Section::Advanced,
    form: "SIZE",
    default: Preset::Value("64KiB"),
    help: "Bytes that a client may send before it has the answer to its previous request",
    details: "Beyond the limit, the broker stops reading from the connection until it has answered (TCP back-pressure).",
    accept: |bytes| size(bytes, 1 << 10, 16 << 20),
    show: |config| config.settings.pipeline_bytes_max.to_string(),
};

/// Descriptors that are not for connections.
pub fn reserved_descriptors(workers: usize) -> usize {
    DESCRIPTORS_BASE + ADMIN_CONNECTIONS_MAX + DESCRIPTORS_PER_WORKER * workers
}

/// The limit of connections, and how the workers share it.
pub fn connections(
    flags: &ServeFlags,
    machine: &Machine,
    workers: usize,
    own_tables: bool,
) -> Result<(usize, ConnectionLimit), ConfigError> {
    const RAISE: &str = "Raise the limit (`ulimit -Hn`, LimitNOFILE in a systemd unit)";
    let reserved = reserved_descriptors(workers);
    let limit = machine.descriptors.limit;
    let in_one_table = machine.descriptors.connections_max(reserved);
    let (fit, scope) = match own_tables {
        true => (in_one_table * workers, " for each worker"),
        false => (in_one_table, ""),
    };
    let refuse = |problem: String| Err(flags.refuse(&MAX_CONNECTIONS, &problem));
    let connections_max = match flags.get(&MAX_CONNECTIONS)? {
        Auto::Auto if fit < workers => refuse(format!(
            "cannot be used: the limit of {limit} open files is too low, because the broker needs {reserved} files besides connections. {RAISE}."
        )),
        Auto::Auto => Ok(fit.min(CONNECTIONS_MAX)),
        Auto::Set(Count(asked)) if asked > fit => refuse(format!(
            "is too many: the limit of {limit} open files{scope} allows {fit} connections, because the broker needs {reserved} other files. {RAISE}, or use a lower number."
        )),
        Auto::Set(Count(asked)) if asked < workers => {
            refuse(format!("is fewer than the {workers} workers. Use at least one connection per worker."))
        }
        Auto::Set(Count(asked)) => Ok(asked),
    }?;
    Ok((connections_max, ConnectionLimit::of(connections_max, workers).within(in_one_table, workers)))
}

pub fn buffered_bytes_max(flags: &ServeFlags, workers: usize) -> Result<usize, ConfigError> {
    let body_bytes_max = flags.get(&MAX_BODY)?.0 as usize;
    let least = (BUFFERED_BODIES * body_bytes_max).max(BUFFERED_BYTES_PER_WORKER * workers);
    match flags.get(&MAX_BUFFERED)? {
        Auto::Auto => Ok(least.max(BUFFERED_BYTES)),
        Auto::Set(Bytes(asked)) if asked < least as u64 => Err(flags.refuse(
            &MAX_BUFFERED,
            &format!(
                "is too small: {BUFFERED_BODIES} times --max-body ({}), and 1MiB per worker, must fit. Use at least {least}, or lower --max-body.",
                flags.shown(&MAX_BODY)
            ),
        )),
        Auto::Set(Bytes(asked)) => Ok(usize::try_from(asked).unwrap_or(usize::MAX / 2)),
    }
}
