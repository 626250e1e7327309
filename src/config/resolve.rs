//! From the flags as typed, and the machine, to a [`ServeConfig`], or to the first setting that cannot be used.

use super::error::ConfigError;
use super::flags::delivery::{self, ACK_TIMEOUT, CONFIRM, DISPATCH_TIMEOUT, MAX_ATTEMPTS, READ_TIMEOUT};
use super::flags::limits::{
    self, MAX_BODY, MAX_CONNECTIONS_PER_ADDRESS, MAX_HEAD, MAX_KEYS, MAX_PIPELINED, MAX_POLLS_PER_DEPLOYMENT,
    MAX_POLLS_PER_KEY,
};
use super::flags::matching::{self, CONNECTION_TIMEOUT, KEEPALIVE, MATCH_ORDER};
use super::flags::timeouts::{self, IDLE_TIMEOUT, REQUEST_TIMEOUT, SHUTDOWN_TIME, WRITE_TIMEOUT};
use super::flags::tokens::{self, MAX_TOKENS};
use super::flags::workers::{self, ENGINE};
use super::flags::{ServeFlags, advanced, listeners, monitoring, security, tcp, tls, traces};
use super::serve_config::ServeConfig;
use crate::broker::settings::Settings;
use crate::sys::Machine;

/// How long a refused client may take to read the refusal.
const LINGER_MS: u64 = 1_000;

impl ServeConfig {
    /// Validates the flags against each other and against the machine.
    pub fn resolve(flags: ServeFlags, machine: Machine) -> Result<Self, ConfigError> {
        let flags = &flags;
        let workers = workers::resolve(flags, &machine)?;
        let own_tables = advanced::own_tables(flags, &machine, workers.len())?;
        let (connections_max, connections) = limits::connections(flags, &machine, workers.len(), own_tables)?;
        let listeners = listeners::resolve(flags, machine.activated)?;
        let dispatch_allow = security::dispatch_allow(flags)?;
        security::check_dispatch(flags, &listeners, dispatch_allow.is_some())?;
        let (tokens, token_secrets) = tokens::resolve(flags, machine.token_variables)?;
        let settings = Settings {
            connection_timeout_ms: flags.get(&CONNECTION_TIMEOUT)?.0,
            keepalive_ms: flags.get(&KEEPALIVE)?.0,
            match_order: flags.get(&MATCH_ORDER)?,
            guard_ms: matching::guard_ms(flags)?,
            confirm: flags.get(&CONFIRM)?,
            ack_timeout_ms: delivery::within_dispatch_ms(flags, &ACK_TIMEOUT)?,
            read_timeout_ms: delivery::within_dispatch_ms(flags, &READ_TIMEOUT)?,
            dispatch_timeout_ms: flags.get(&DISPATCH_TIMEOUT)?.0,
            attempts_max: flags.get(&MAX_ATTEMPTS)?.0 as u8,
            request_timeout_ms: flags.get(&REQUEST_TIMEOUT)?.0,
            idle_timeout_ms: flags.get(&IDLE_TIMEOUT)?.0,
            preconnect_timeout_ms: timeouts::preconnect_ms(flags)?,
            write_timeout_ms: flags.get(&WRITE_TIMEOUT)?.0,
            shutdown_time_ms: flags.get(&SHUTDOWN_TIME)?.0,
            linger_ms: LINGER_MS,
            connections,
            connections_per_address_max: flags.get(&MAX_CONNECTIONS_PER_ADDRESS)?.or(u32::MAX as usize)
                as u32,
            polls_per_key_max: flags.get(&MAX_POLLS_PER_KEY)?.or(usize::MAX),
            polls_per_deployment_max: flags.get(&MAX_POLLS_PER_DEPLOYMENT)?.or(usize::MAX),
            keys_max: flags.get(&MAX_KEYS)?.0,
            body_bytes_max: flags.get(&MAX_BODY)?.0 as usize,
            head_bytes_max: flags.get(&MAX_HEAD)?.0 as usize,
            pipeline_bytes_max: flags.get(&MAX_PIPELINED)?.0 as usize,
            buffered_bytes_max: limits::buffered_bytes_max(flags, workers.len())?,
            tokens_max: flags.get(&MAX_TOKENS)?.0,
            token_mode: tokens.mode,
            token_secrets,
            dispatch_on_runner_side: listeners.dispatch.is_none(),
            dispatch_from_anyone: dispatch_allow.is_none(),
            events: false,
        };
        Ok(ServeConfig {
            dispatch_allow,
            admin_changes: security::admin_changes(flags, &listeners.admin)?,
            process: security::process(flags)?,
            workers,
            engine: flags.get(&ENGINE)?,
            coalesce: advanced::coalesce(flags)?,
            coalesce_from_percent: flags.get(&advanced::COALESCE_FROM_PERCENT)?.0 as u32,
            ack_check_from_events: flags.get(&advanced::ACK_CHECK_FROM_EVENTS)?.or(usize::MAX),
            ring_from_events: flags.get(&advanced::RING_FROM_EVENTS)?.or(usize::MAX),
            settings,
            connections_max,
            descriptors: machine.descriptors,
            own_tables,
            tcp: tcp::resolve(flags)?,
            tls: tls::resolve(flags, &listeners)?,
            listeners,
            tokens,
            log: monitoring::log(flags)?,
            watching: monitoring::watching(flags)?,
            traces: traces::resolve(flags)?,
        })
    }
}
