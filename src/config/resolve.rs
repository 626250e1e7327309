//! From raw flags and the machine they run on to a `ServeConfig`, or one line that says what to change.

use super::boundary::{self, unix_path};
use super::{
    DescriptorTables, EngineChoice, ListenSpec, Listeners, LogConfig, ServeConfig, TcpOptions, Watching,
};
use super::{tls, tokens, traces};
use crate::broker::settings::{Confirm, ConnectionLimit, Settings, TokenMode};
use crate::broker::token::Secrets;
use crate::cli::{Auto, Bytes, Count, Limit, Micros, Millis, ServeFlags};
use crate::sys::activation::Activated;
use crate::sys::listen::Side;
use crate::sys::{Machine, cpus};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Workers that the mesh can address: one bit each.
pub const WORKERS_MAX: usize = 64;
/// Connections of the admin side; past it the oldest is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Descriptors that a worker needs beside its connections: poller, wakers, listeners and their spares.
const DESCRIPTORS_PER_WORKER: usize = 8;
/// Descriptors that the process needs besides: standard streams, runtime, log, service manager.
const DESCRIPTORS_BASE: usize = 32;
/// What a connection's index can count.
const CONNECTIONS_MAX: usize = 1 << 24;
/// Verified tokens, of up to 4 KiB each.
const TOKENS_MAX: usize = 1 << 20;
/// The runners' HTTP client gives up on any answer then.
const CONNECTION_TIMEOUT_LIMIT_MS: u64 = 300_000;
/// setTimeout overflows above it.
const SET_TIMEOUT_MAX_MS: u64 = i32::MAX as u64;
/// Any other time. Longer is a typing error.
const TIME_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// The clients drop an idle connection then.
const CLIENT_IDLE_MS: u64 = 4_000;
/// More of anything to watch is for nobody to read.
pub(super) const WATCHED_MAX: usize = 10_000;
/// The kernel's bounds on TCP_KEEPIDLE and TCP_KEEPINTVL, and on TCP_KEEPCNT.
const KEEPALIVE_MAX_S: u64 = 32_767;
const KEEPALIVE_COUNT_MAX: usize = 127;

/// A flag that cannot be honoured: one line with the flag, its value and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {value}: {advice}")]
pub struct ConfigError {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// Its value, as typed.
    pub value: String,
    /// What is wrong with it and what to do.
    pub advice: String,
}

pub(super) fn refuse<T>(
    flag: &'static str,
    value: impl ToString,
    advice: impl Into<String>,
) -> Result<T, ConfigError> {
    Err(ConfigError { flag, value: value.to_string(), advice: advice.into() })
}

impl ServeConfig {
    /// Validates the flags against each other and against the machine.
    pub fn resolve(flags: ServeFlags, machine: Machine) -> Result<Self, ConfigError> {
        let engine = engine(flags.engine)?;
        let coalesce = coalesce(flags.coalesce, flags.confirm)?;
        let coalesce_from_percent = percent("--coalesce-from-percent", flags.coalesce_from_percent)?;
        let ack_check_from_events = bound(flags.ack_check_from_events, usize::MAX);
        let ring_from_events = bound(flags.ring_from_events, usize::MAX);
        let workers = workers(&flags, &machine)?;
        let own_tables = own_tables(&flags, &machine, workers.len())?;
        let (connections_max, connections) = connections(&flags, &machine, workers.len(), own_tables)?;
        let log = log(&flags)?;
        let tcp = tcp(&flags)?;
        let watching = watching(&flags)?;
        let traces = traces::resolve(&flags.traces)?;
        let descriptors = machine.descriptors;
        let listeners = listeners(&flags, machine.activated)?;
        let dispatch_allow = boundary::dispatch_allow(&flags)?;
        boundary::dispatch_is_meant(&flags, &listeners, dispatch_allow.is_some())?;
        let admin_changes = boundary::admin_changes(&flags, &listeners.admin)?;
        let process = boundary::process(&flags)?;
        let tls = tls::resolve(&flags, &listeners)?;
        let (tokens, token_secrets) = tokens::resolve(&flags, machine.token_variables)?;
        let settings = broker_settings(&flags)?;
        let settings = Settings {
            connections,
            dispatch_on_runner_side: listeners.dispatch.is_none(),
            dispatch_from_anyone: dispatch_allow.is_none(),
            buffered_bytes_max: boundary::buffered_bytes_max(&flags, workers.len(), settings.body_bytes_max)?,
            token_mode: tokens.mode,
            token_secrets,
            ..settings
        };
        Ok(ServeConfig {
            listeners,
            dispatch_allow,
            admin_changes,
            process,
            workers,
            engine,
            coalesce,
            coalesce_from_percent,
            ack_check_from_events,
            ring_from_events,
            settings,
            connections_max,
            descriptors,
            own_tables,
            tcp,
            tls,
            tokens,
            log,
            watching,
            traces,
        })
    }
}

/// After a refusal: how long its peer may take to read it.
const LINGER_MS: u64 = 1_000;

/// Above it a rest would be felt by whoever waits for an answer.
const COALESCE_MAX_US: u64 = 10_000;

/// What measured best (docs/benchmarks.md) where each run costs a connection.
const COALESCE_READ_US: u64 = 300;

fn coalesce(typed: Auto<Micros>, confirm: Confirm) -> Result<Duration, ConfigError> {
    let us = match (typed, confirm) {
        (Auto::Set(us), _) => us.0,
        (Auto::Auto, Confirm::Read) => COALESCE_READ_US,
        (Auto::Auto, Confirm::Ack | Confirm::Write) => 0,
    };
    let coalesce = Duration::from_micros(us);
    match us <= COALESCE_MAX_US {
        true => Ok(coalesce),
        false => refuse("--coalesce", humantime::format_duration(coalesce), "from 0s to 10ms"),
    }
}

fn percent(flag: &'static str, typed: Count) -> Result<u32, ConfigError> {
    match u32::try_from(typed.0) {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => refuse(flag, typed.0, "from 1 to 100"),
    }
}

fn engine(choice: EngineChoice) -> Result<EngineChoice, ConfigError> {
    match choice {
        EngineChoice::IoUring if !cfg!(feature = "io-uring") => refuse(
            "--engine",
            "io-uring",
            "this build does not contain it: choose epoll or auto, or build it without `--no-default-features`",
        ),
        choice => Ok(choice),
    }
}

fn workers(flags: &ServeFlags, machine: &Machine) -> Result<Vec<Option<usize>>, ConfigError> {
    match (&flags.cpus, flags.workers) {
        (Some(list), Some(Count(count))) => refuse(
            "--cpus",
            list,
            format!(
                "set as well as --workers {count}: --cpus already says how many; leave one of the two out"
            ),
        ),
        (Some(list), None) => match pinned(list, &machine.cpus) {
            Ok(workers) => Ok(workers),
            Err(advice) => refuse("--cpus", format_args!("{list:?}"), advice),
        },
        (None, Some(Count(count))) if count > WORKERS_MAX => {
            refuse("--workers", count, format!("at most {WORKERS_MAX}; more than one per CPU gains nothing"))
        }
        (None, Some(Count(count))) => Ok(vec![None; count]),
        (None, None) => Ok(vec![None; machine.parallelism.clamp(1, WORKERS_MAX)]),
    }
}

fn pinned(list: &str, allowed: &[usize]) -> Result<Vec<Option<usize>>, String> {
    let cpus = cpus::parse_list(list)?;
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!(
            "CPU {cpu} is not this process's to use: it may use {}",
            cpus::format_list(allowed)
        ));
    }
    match cpus.len() <= WORKERS_MAX {
        true => Ok(cpus.into_iter().map(Some).collect()),
        false => Err(format!("at most {WORKERS_MAX} workers: name fewer CPUs")),
    }
}

/// With so many connections in one table, whoever did not ask for a number is well served.
const PLENTY_OF_CONNECTIONS: usize = 100_000;

/// Workers that share a table of descriptors can handle each other's mail (`shard/event_loop.rs`), which is worth more
/// to several than what a table of its own saves each call.
fn own_tables(flags: &ServeFlags, machine: &Machine, workers: usize) -> Result<bool, ConfigError> {
    let in_one_table = machine.descriptors.connections_max(reserved(workers));
    let one_does = match flags.max_connections {
        Auto::Auto => in_one_table >= PLENTY_OF_CONNECTIONS,
        Auto::Set(Count(asked)) => in_one_table >= asked,
    };
    match flags.descriptor_tables {
        DescriptorTables::Process => Ok(false),
        DescriptorTables::Worker if !machine.own_tables => refuse(
            "--descriptor-tables",
            "worker",
            "the kernel refuses it: it takes Linux 5.9, and a sandbox that allows close_range(2); choose auto or process",
        ),
        DescriptorTables::Worker => Ok(true),
        DescriptorTables::Auto => Ok(machine.own_tables && (workers == 1 || !one_does)),
    }
}

/// Descriptors that are not for connections.
fn reserved(workers: usize) -> usize {
    DESCRIPTORS_BASE + ADMIN_CONNECTIONS_MAX + DESCRIPTORS_PER_WORKER * workers
}

/// How many in all, and how they are divided.
fn connections(
    flags: &ServeFlags,
    machine: &Machine,
    workers: usize,
    own_tables: bool,
) -> Result<(usize, ConnectionLimit), ConfigError> {
    let reserved = reserved(workers);
    let limit = machine.descriptors.limit;
    let in_one_table = machine.descriptors.connections_max(reserved);
    let (fit, whose) = match own_tables {
        true => (in_one_table * workers, " for each worker"),
        false => (in_one_table, ""),
    };
    let raise = "raise the limit (`ulimit -Hn`, LimitNOFILE in a systemd unit)";
    let connections_max = match flags.max_connections {
        Auto::Auto if fit < workers => refuse(
            "--max-connections",
            "auto",
            format!(
                "the limit of {limit} open files is too low, {reserved} are needed beside the connections: {raise}"
            ),
        ),
        Auto::Auto => Ok(fit.min(CONNECTIONS_MAX)),
        Auto::Set(Count(asked)) if asked > CONNECTIONS_MAX => {
            refuse("--max-connections", asked, format!("at most {CONNECTIONS_MAX}"))
        }
        Auto::Set(Count(asked)) if asked > fit => refuse(
            "--max-connections",
            asked,
            format!(
                "the limit of {limit} open files{whose} leaves room for {fit} connections ({reserved} are needed besides): {raise}, or ask for fewer"
            ),
        ),
        Auto::Set(Count(asked)) if asked < workers => {
            refuse("--max-connections", asked, format!("at least one for each of the {workers} workers"))
        }
        Auto::Set(Count(asked)) => Ok(asked),
    }?;
    Ok((connections_max, ConnectionLimit::of(connections_max, workers).within(in_one_table, workers)))
}

fn listeners(flags: &ServeFlags, activated: Activated) -> Result<Listeners, ConfigError> {
    let listeners = Listeners {
        takeover: flags.takeover,
        unix_mode: flags.unix_mode.0,
        runner: listener(Side::Runner, &flags.listen, activated.runner)?,
        dispatch: match (&flags.dispatch_listen, activated.dispatch) {
            (None, None) => None,
            (typed, fd) => Some(listener(Side::Dispatch, typed.as_deref().unwrap_or_default(), fd)?),
        },
        admin: listener(Side::Admin, &flags.admin_listen, activated.admin)?,
    };
    if let (Some(ListenSpec::Unix(path)), ListenSpec::Unix(other)) = (&listeners.dispatch, &listeners.admin)
        && path == other
    {
        return refuse(
            "--admin-listen",
            flags.admin_listen.as_str(),
            "--dispatch-listen has that path: choose another",
        );
    }
    // Sockets that share a port with SO_REUSEPORT would not be refused by the kernel.
    let mut seen: Vec<(Side, SocketAddr)> = Vec::new();
    let all = [
        (Side::Runner, Some(&listeners.runner)),
        (Side::Dispatch, listeners.dispatch.as_ref()),
        (Side::Admin, Some(&listeners.admin)),
    ];
    for (side, spec) in all {
        let Some(&ListenSpec::Addr(addr)) = spec else {
            continue;
        };
        if let Some((other, _)) = seen.iter().find(|(_, at)| *at == addr && addr.port() != 0) {
            return refuse(
                side.flag(),
                addr,
                format!("{} has that address: choose another port", other.flag()),
            );
        }
        seen.push((side, addr));
    }
    Ok(listeners)
}

fn listener(side: Side, typed: &str, fd: Option<OwnedFd>) -> Result<ListenSpec, ConfigError> {
    if let Some(fd) = fd {
        return Ok(ListenSpec::Fd(Arc::new(fd)));
    }
    if let Some(path) = unix_path(side, typed)? {
        return Ok(ListenSpec::Unix(path));
    }
    match typed.parse() {
        Ok(addr) => Ok(ListenSpec::Addr(addr)),
        Err(_) => refuse(
            side.flag(),
            format_args!("{typed:?}"),
            "write an IP address and a port, such as 127.0.0.1:8040, 0.0.0.0:8040 or [::]:8040",
        ),
    }
}

fn log(flags: &ServeFlags) -> Result<LogConfig, ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |word: &str| LEVELS.contains(&word.trim().to_ascii_lowercase().as_str());
    let understood = flags.log_level.split(',').all(|directive| match directive.split_once('=') {
        Some((module, word)) => !module.trim().is_empty() && level(word),
        None => level(directive),
    });
    match understood {
        true => Ok(LogConfig { format: flags.log_format, filter: flags.log_level.clone() }),
        false => refuse(
            "--log-level",
            format_args!("{:?}", flags.log_level),
            "write off, error, warn, info or debug, or per module: info,pilotlight::control=debug",
        ),
    }
}

fn watching(flags: &ServeFlags) -> Result<Watching, ConfigError> {
    Ok(Watching {
        metrics_deployments: count("--metrics-deployments", flags.metrics_deployments, WATCHED_MAX)?,
        recent_dispatches: count("--recent-dispatches", flags.recent_dispatches, WATCHED_MAX)?,
        sampled_dispatches: count("--sampled-dispatches", flags.sampled_dispatches, WATCHED_MAX)? as u32,
    })
}

fn tcp(flags: &ServeFlags) -> Result<TcpOptions, ConfigError> {
    let seconds = |flag, time: Millis| match (time.0 % 1_000, time.0 / 1_000) {
        (0, s @ 1..=KEEPALIVE_MAX_S) => Ok(s as u32),
        _ => refuse(flag, show(time), format!("whole seconds, from 1s to {KEEPALIVE_MAX_S}s")),
    };
    Ok(TcpOptions {
        backlog: u32::try_from(flags.backlog.0).unwrap_or(u32::MAX).min(i32::MAX as u32),
        user_timeout_ms: within("--tcp-user-timeout", flags.tcp_user_timeout, 0)? as u32,
        keepalive_idle_s: seconds("--tcp-keepalive-idle", flags.tcp_keepalive_idle)?,
        keepalive_interval_s: seconds("--tcp-keepalive-interval", flags.tcp_keepalive_interval)?,
        keepalive_count: count("--tcp-keepalive-count", flags.tcp_keepalive_count, KEEPALIVE_COUNT_MAX)?
            as u32,
    })
}

fn broker_settings(flags: &ServeFlags) -> Result<Settings, ConfigError> {
    let connection_timeout = flags.connection_timeout;
    if connection_timeout.0 == 0 || connection_timeout.0 >= CONNECTION_TIMEOUT_LIMIT_MS {
        return refuse(
            "--connection-timeout",
            show(connection_timeout),
            "above 0 and below 300s, where the runners' HTTP client gives up; 30s is usual",
        );
    }
    if flags.keepalive.0 == 0 || flags.keepalive.0 > SET_TIMEOUT_MAX_MS {
        return refuse(
            "--keepalive",
            show(flags.keepalive),
            format!(
                "above 0 and at most {SET_TIMEOUT_MAX_MS}ms (24 days), where the runners' timer overflows; 5m is usual"
            ),
        );
    }
    let dispatch_timeout_ms = within("--dispatch-timeout", flags.dispatch_timeout, 1)?;
    let shorter = |flag, time: Millis| match time.0 < dispatch_timeout_ms {
        true => within(flag, time, 1),
        false => refuse(
            flag,
            show(time),
            format!(
                "less than --dispatch-timeout {}, or no dispatch would live to see it",
                show(flags.dispatch_timeout)
            ),
        ),
    };
    let guard_ms = match flags.guard {
        Auto::Auto => (connection_timeout.0 / 10).min(500),
        Auto::Set(guard) if guard.0 >= connection_timeout.0 => {
            return refuse(
                "--guard",
                show(guard),
                format!(
                    "less than --connection-timeout {}, or no poll would ever be offered a run",
                    show(connection_timeout)
                ),
            );
        }
        Auto::Set(guard) => guard.0,
    };
    let preconnect_timeout_ms = match flags.preconnect_timeout {
        Auto::Auto => connection_timeout.0 * 5 / 2 + 5_000,
        Auto::Set(time) => within("--preconnect-timeout", time, 1)?,
    };
    if flags.idle_timeout.0 <= CLIENT_IDLE_MS {
        return refuse(
            "--idle-timeout",
            show(flags.idle_timeout),
            "above 4s: the clients keep an idle connection that long, and would send on one that is being closed",
        );
    }
    Ok(Settings {
        connection_timeout_ms: connection_timeout.0,
        keepalive_ms: flags.keepalive.0,
        connections: ConnectionLimit::of(0, 1),
        keys_max: count("--max-keys", flags.max_keys, CONNECTIONS_MAX)?,
        body_bytes_max: size("--max-body", flags.max_body, 1 << 10, 1 << 30)?,
        head_bytes_max: size("--max-head", flags.max_head, 1 << 10, 1 << 20)?,
        request_timeout_ms: within("--request-timeout", flags.request_timeout, 1)?,
        idle_timeout_ms: within("--idle-timeout", flags.idle_timeout, 1)?,
        preconnect_timeout_ms,
        write_timeout_ms: within("--write-timeout", flags.write_timeout, 1)?,
        match_order: flags.match_order,
        confirm: flags.confirm,
        ack_timeout_ms: shorter("--ack-timeout", flags.ack_timeout)?,
        read_timeout_ms: shorter("--read-timeout", flags.read_timeout)?,
        dispatch_timeout_ms,
        attempts_max: count("--max-attempts", flags.max_attempts, 255)? as u8,
        guard_ms,
        shutdown_time_ms: within("--shutdown-time", flags.shutdown_time, 0)?,
        linger_ms: LINGER_MS,
        pipeline_bytes_max: size("--max-pipelined", flags.max_pipelined, 1 << 10, 16 << 20)?,
        events: false,
        token_mode: TokenMode::Off,
        token_secrets: Secrets::default(),
        tokens_max: count("--max-tokens", flags.max_tokens, TOKENS_MAX)?,
        dispatch_on_runner_side: true,
        dispatch_from_anyone: true,
        connections_per_address_max: bound(flags.max_connections_per_address, u32::MAX as usize) as u32,
        polls_per_key_max: bound(flags.max_polls_per_key, usize::MAX),
        polls_per_deployment_max: bound(flags.max_polls_per_deployment, usize::MAX),
        buffered_bytes_max: 0,
    })
}

/// A bound, or what stands for none.
fn bound(limit: Limit, none: usize) -> usize {
    match limit {
        Limit::Off => none,
        Limit::At(count) => count.min(none),
    }
}

fn within(flag: &'static str, time: Millis, min_ms: u64) -> Result<u64, ConfigError> {
    match (min_ms..=TIME_MAX_MS).contains(&time.0) {
        true => Ok(time.0),
        false => {
            let from = if min_ms == 0 { "from 0s" } else { "above 0" };
            refuse(flag, show(time), format!("{from} and at most 24h"))
        }
    }
}

pub(super) fn count(flag: &'static str, count: Count, max: usize) -> Result<usize, ConfigError> {
    match count.0 <= max {
        true => Ok(count.0),
        false => refuse(flag, count.0, format!("at most {max}")),
    }
}

fn size(flag: &'static str, size: Bytes, min: u64, max: u64) -> Result<usize, ConfigError> {
    match (min..=max).contains(&size.0) {
        true => Ok(size.0 as usize),
        false => refuse(
            flag,
            format_args!("{} bytes", size.0),
            format!("from {}KiB to {}MiB", min >> 10, max >> 20),
        ),
    }
}

fn show(time: Millis) -> String {
    humantime::format_duration(std::time::Duration::from_millis(time.0)).to_string()
}
