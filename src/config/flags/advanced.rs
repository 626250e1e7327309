//! Flags about the workers' mechanisms. Only a measurement justifies another value than the default.

use super::delivery::CONFIRM;
use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::limits::{MAX_CONNECTIONS, reserved_descriptors};
use super::ranges::auto_micros;
use super::show;
use super::typed::ServeFlags;
use crate::broker::settings::Confirm;
use crate::config::error::ConfigError;
use crate::config::values::{Auto, Count, DescriptorTables, Limit, Micros};
use crate::sys::Machine;
use std::time::Duration;

/// Clients that wait for an answer would notice a longer delay.
const COALESCE_MAX_US: u64 = 10_000;
/// The best measured value (docs/benchmarks.md) if each run needs a new connection.
const COALESCE_READ_US: u64 = 300;
/// One table is large enough if it holds this many connections and --max-connections is auto.
const ENOUGH_CONNECTIONS: usize = 100_000;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&DESCRIPTOR_TABLES, &COALESCE, &COALESCE_FROM_PERCENT, &ACK_CHECK_FROM_EVENTS, &RING_FROM_EVENTS];

pub static DESCRIPTOR_TABLES: Flag<DescriptorTables> = Flag {
    name: "--descriptor-tables",
    variable: "PILOTLIGHT_DESCRIPTOR_TABLES",
    section: Section::Advanced,
    form: "TABLES",
    default: Preset::Value("auto"),
    help: "The descriptor table in which a worker opens connections",
    details: "With one table per worker, workers do not contend for a lock when they open connections, and system calls on a connection take less time. But workers cannot handle each other's mailboxes inline. Connections are then listed in /proc/PID/task/TID/fd of their worker, where most tools do not look.",
    accept: any,
    show: |config| if config.own_tables { "worker" } else { "process" }.to_owned(),
};

pub static COALESCE: Flag<Auto<Micros>> = Flag {
    name: "--coalesce",
    variable: "PILOTLIGHT_COALESCE",
    section: Section::Advanced,
    form: "DURATION",
    default: Preset::Value("auto"),
    help: "How long a busy worker delays its next turn, so that events accumulate; 0s: no delay",
    details: "To block and wake up costs more CPU time than to serve a request. So a busy worker handles several events per turn, as network cards do (interrupt coalescing). A worker that is not busy serves every request at once (--coalesce-from-percent). At most 10ms. auto: 300us with --confirm read, where each run costs a connection and a match is about 10 events; 0s otherwise, where little can be saved.",
    accept: |auto| auto_micros(auto, COALESCE_MAX_US),
    show: |config| show::duration(config.coalesce),
};

pub static COALESCE_FROM_PERCENT: Flag<Count> = Flag {
    name: "--coalesce-from-percent",
    variable: "PILOTLIGHT_COALESCE_FROM_PERCENT",
    section: Section::Advanced,
    form: "PERCENT",
    default: Preset::Value("50"),
    help: "A worker is busy, in the sense of --coalesce, from this share of one CPU's time (1 to 100)",
    details: "Each worker measures its share every 100ms. Delays lower the share, so a worker continues to delay its turns down to 80 % of this value. If its share falls below that as soon as the delays begin, the worker stops them for 4s. The next time it stops them for 8s, and so on up to 64s.",
    accept: |percent| match percent.0 {
        1..=100 => Ok(()),
        _ => Err("is out of range. Use a whole number from 1 to 100.".to_owned()),
    },
    show: |config| config.coalesce_from_percent.to_string(),
};

pub static ACK_CHECK_FROM_EVENTS: Flag<Limit> = Flag {
    name: "--ack-check-from-events",
    variable: "PILOTLIGHT_ACK_CHECK_FROM_EVENTS",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("16"),
    help: "In a turn with at least this many events, the worker checks for late ACKs instead of requesting timestamps (epoll, --confirm ack); or off",
    details: "A runner on the same machine has acknowledged when the send returns. For other runners, the kernel can report an ACK with a timestamp, which is prompt and costs one more event. A busy worker saves that event: it checks the connection's send queue in a later turn. Both prove the same.",
    accept: any,
    show: |config| show::limit(config.ack_check_from_events, usize::MAX),
};

pub static RING_FROM_EVENTS: Flag<Limit> = Flag {
    name: "--ring-from-events",
    variable: "PILOTLIGHT_RING_FROM_EVENTS",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("8"),
    help: "In a turn with at least this many events, the worker sends responses through the ring in one call, otherwise each immediately (io_uring); or off",
    details: "The result of a send through the ring, and its ACK, are known one turn later. Many responses share the cost of that turn; a lone response would wait for it. With --confirm read, a run is the last response of its connection and is always sent immediately.",
    accept: any,
    show: |config| show::limit(config.ring_from_events, usize::MAX),
};

pub fn coalesce(flags: &ServeFlags) -> Result<Duration, ConfigError> {
    let us = match (flags.get(&COALESCE)?, flags.get(&CONFIRM)?) {
        (Auto::Set(Micros(us)), _) => us,
        (Auto::Auto, Confirm::Read) => COALESCE_READ_US,
        (Auto::Auto, Confirm::Ack | Confirm::Write) => 0,
    };
    Ok(Duration::from_micros(us))
}

/// Whether each worker has its own descriptor table. Several workers should share one table if it holds enough
/// connections: they can then handle each other's mailboxes inline, which saves more than separate tables do.
pub fn own_tables(flags: &ServeFlags, machine: &Machine, workers: usize) -> Result<bool, ConfigError> {
    let in_one_table = machine.descriptors.connections_max(reserved_descriptors(workers));
    let one_table_holds_enough = match flags.get(&MAX_CONNECTIONS)? {
        Auto::Auto => in_one_table >= ENOUGH_CONNECTIONS,
        Auto::Set(Count(asked)) => in_one_table >= asked,
    };
    match flags.get(&DESCRIPTOR_TABLES)? {
        DescriptorTables::Process => Ok(false),
        DescriptorTables::Worker if !machine.own_tables => Err(flags.refuse(
            &DESCRIPTOR_TABLES,
            "is not supported here: it needs Linux 5.9, and a sandbox that permits close_range(2). Use auto or process.",
        )),
        DescriptorTables::Worker => Ok(true),
        DescriptorTables::Auto => Ok(machine.own_tables && (workers == 1 || !one_table_holds_enough)),
    }
}
