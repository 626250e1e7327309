//! One validated configuration: whoever holds a [`ServeConfig`] need check nothing.

mod resolve;
#[cfg(test)]
mod tests;
mod tokens;

pub use crate::cli::{EngineChoice, LogFormat};
pub use crate::sys::listen::TcpOptions;
pub use resolve::{ADMIN_CONNECTIONS_MAX, ConfigError, WORKERS_MAX};
pub use tokens::{Loaded, SecretSource, SecretsError, TokenConfig, load as load_secrets};

use crate::broker::settings::Settings;
use crate::sys::descriptors::Descriptors;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Everything `pilotlight serve` was asked for, validated.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen.
    pub listeners: Listeners,
    /// One entry per worker: the CPU it is pinned to, if any. Never empty.
    pub workers: Vec<Option<usize>>,
    /// Which engine moves the bytes.
    pub engine: EngineChoice,
    /// Every limit of one core. Its `connections_max` is this core's share.
    pub settings: Settings,
    /// Open connections on all cores together.
    pub connections_max: usize,
    /// The limit of open files that allows them.
    pub descriptors: Descriptors,
    /// Socket options of the data plane.
    pub tcp: TcpOptions,
    /// What is done about deployment tokens.
    pub tokens: TokenConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What is remembered for those who watch.
    pub watching: Watching,
}

/// What is remembered for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Deployments that have a sample of their own in `/metrics`.
    pub metrics_deployments: usize,
    /// Dispatches remembered.
    pub recent_dispatches: usize,
    /// Dispatches that a worker tells of per second while nobody watches.
    pub sampled_dispatches: u32,
}

/// The three listeners.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Runner side: `GET /connect`, `GET /warm-start`.
    pub runner: ListenSpec,
    /// Supervisor side: `POST /warm-start`. None: served on the runner side too.
    pub dispatch: Option<ListenSpec>,
    /// Health, metrics, status, drain.
    pub admin: ListenSpec,
    /// Share addresses that somebody listens on already.
    pub takeover: bool,
}

/// One listener: to be bound, or handed over by the service manager.
#[derive(Clone, Debug)]
pub enum ListenSpec {
    /// Bind this address.
    Addr(SocketAddr),
    /// A listening socket that came with the process (systemd socket activation).
    /// It may be shared with a predecessor or a successor: never `shutdown` it.
    Fd(Arc<OwnedFd>),
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or directives such as `info,pilotlight::control=debug`.
    pub filter: String,
}
