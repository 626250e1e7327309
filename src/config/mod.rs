//! One validated configuration: whoever holds a [`ServeConfig`] need check nothing.

mod boundary;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod traces;

pub use crate::cli::{DescriptorTables, EngineChoice, LogFormat};
pub use crate::sys::listen::ListenSpec;
pub use crate::sys::tcp::TcpOptions;
pub use boundary::{AdminToken, dispatch_is_shared};
pub use resolve::{ADMIN_CONNECTIONS_MAX, ConfigError, WORKERS_MAX};
pub use tls::TlsConfig;
pub use tokens::{Loaded, SecretSource, SecretsError, TokenConfig, load as load_secrets};
pub use traces::TraceConfig;

use crate::broker::settings::Settings;
use crate::sys::descriptors::Descriptors;
use crate::sys::listen::{ListenOptions, UnixOptions};
use crate::sys::user::Identity;
use ipnet::IpNet;
use std::time::Duration;

/// Everything `pilotlight serve` was asked for, validated.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen.
    pub listeners: Listeners,
    /// The networks that may dispatch; `None`: whoever reaches a listener that takes dispatches.
    pub dispatch_allow: Option<Vec<IpNet>>,
    /// Who may have the admin side change something.
    pub admin_changes: AdminChanges,
    /// What the process gives up.
    pub process: ProcessConfig,
    /// One entry per worker: the CPU it is pinned to, if any. Never empty.
    pub workers: Vec<Option<usize>>,
    /// Which engine moves the bytes.
    pub engine: EngineChoice,
    /// How long a worker rests between turns in busy times; zero: not at all.
    pub coalesce: Duration,
    /// The share of a processor's time from which a worker is busy, in percent.
    pub coalesce_from_percent: u32,
    /// From as many events in a turn on the epoll engine looks for acknowledgements.
    pub ack_check_from_events: usize,
    /// From as many events in a turn on the io_uring engine sends through the ring.
    pub ring_from_events: usize,
    /// Every limit of one worker. Its `connections_max` is this worker's share.
    pub settings: Settings,
    /// Open connections on all workers together.
    pub connections_max: usize,
    /// The limit of open files that allows them.
    pub descriptors: Descriptors,
    /// Each worker has a table of descriptors of its own, and that limit for itself.
    pub own_tables: bool,
    /// Socket options of the data plane.
    pub tcp: TcpOptions,
    /// Which listeners are served with TLS.
    pub tls: TlsConfig,
    /// What is done about deployment tokens.
    pub tokens: TokenConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What is remembered for those who watch.
    pub watching: Watching,
    /// Where spans go.
    pub traces: TraceConfig,
}

impl ServeConfig {
    /// How a listener with this backlog is opened.
    pub fn listen_options(&self, backlog: u32) -> ListenOptions {
        let unix = UnixOptions { mode: self.listeners.unix_mode, owner: self.process.identity.clone() };
        ListenOptions { backlog, exclusive: !self.listeners.takeover, unix }
    }
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
    /// Permissions of the files of Unix domain sockets.
    pub unix_mode: u32,
}

/// Who may have the admin side change something. Looking is free to whoever reaches it.
#[derive(Clone, Debug)]
pub enum AdminChanges {
    /// Whoever reaches it: it is on loopback or a Unix domain socket.
    ByAnyone,
    /// Whoever has the token.
    ByToken(AdminToken),
    /// Nobody: it is on the network, and there is no token.
    ByNobody,
}

/// What the process gives up once it serves.
#[derive(Clone, Debug, Default)]
pub struct ProcessConfig {
    /// The user to become.
    pub identity: Option<Identity>,
    /// Filter the workers' system calls.
    pub seccomp: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or directives such as `info,pilotlight::control=debug`.
    pub filter: String,
}
