//! The validated configuration of `pilotlight serve`, as plain data: its users need not check anything.

use super::admin_token::AdminToken;
use super::token_secrets::SecretSource;
use super::values::{EngineChoice, LogFormat};
use crate::broker::settings::{Settings, TokenMode};
use crate::sys::descriptors::Descriptors;
use crate::sys::listen::{ListenOptions, ListenSpec, UnixOptions};
use crate::sys::tcp::TcpOptions;
use crate::sys::tls;
use crate::sys::user;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct ServeConfig {
    pub listeners: Listeners,
    /// The networks that may dispatch. `None`: every client that reaches a listener that takes dispatches.
    pub dispatch_allow: Option<Vec<IpNet>>,
    pub admin_changes: AdminChanges,
    pub process: ProcessConfig,
    /// One entry per worker: the CPU that it is pinned to, if any. Never empty.
    pub workers: Vec<Option<usize>>,
    pub engine: EngineChoice,
    /// How long a busy worker pauses between turns. Zero: it does not pause.
    pub coalesce: Duration,
    /// A worker that uses at least this share of one CPU's time is busy.
    pub coalesce_from_percent: u32,
    /// On epoll, a turn with at least this many events polls for late ACKs instead of requesting their timestamps.
    pub ack_check_from_events: usize,
    /// On io_uring, a turn with at least this many events sends responses through the ring.
    pub ring_from_events: usize,
    /// The limits and times of one worker. Its `connections` is this worker's share.
    pub settings: Settings,
    /// Open connections of all workers together.
    pub connections_max: usize,
    /// The limit of open files that permits `connections_max`.
    pub descriptors: Descriptors,
    /// Each worker has its own descriptor table, and the limit of open files applies to each.
    pub own_tables: bool,
    pub tcp: TcpOptions,
    pub tls: TlsConfig,
    pub tokens: TokenConfig,
    pub log: LogConfig,
    pub watching: Watching,
    pub traces: TraceConfig,
}

/// How much the control plane keeps for the page, the API and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Deployments that have a sample of their own in `/metrics`.
    pub metrics_deployments: usize,
    pub recent_dispatches: usize,
    /// Dispatches that a worker reports per second while no client watches.
    pub sampled_dispatches: u32,
}

#[derive(Clone, Debug)]
pub struct Listeners {
    /// Serves `GET /connect` and `GET /warm-start`.
    pub runner: ListenSpec,
    /// Serves `POST /warm-start`. `None`: the runner side serves it too.
    pub dispatch: Option<ListenSpec>,
    /// Serves health, metrics, status and cordons.
    pub admin: ListenSpec,
    /// Share addresses that another process listens on already.
    pub takeover: bool,
    /// The permissions of the socket files of Unix domain sockets.
    pub unix_mode: u32,
}

impl ServeConfig {
    /// The options to open a listener with this backlog.
    pub fn listen_options(&self, backlog: u32) -> ListenOptions {
        let unix = UnixOptions { mode: self.listeners.unix_mode, owner: self.process.identity.clone() };
        ListenOptions { backlog, exclusive: !self.listeners.takeover, unix }
    }
}

impl Listeners {
    /// Whether every client that reaches the runner side over the network can dispatch. `is_restricted` means that
    /// --dispatch-allow is set.
    pub fn share_dispatch(&self, is_restricted: bool) -> bool {
        self.dispatch.is_none() && !is_restricted && !self.runner.is_private()
    }
}

/// Who may use the admin side to change something. Every client that reaches it may read.
#[derive(Clone, Debug)]
pub enum AdminChanges {
    /// Every client: the admin side is on loopback or a Unix domain socket.
    Allowed,
    /// Clients that send the token.
    WithToken(AdminToken),
    /// No client: the admin side is on the network, and there is no token.
    Denied,
}

/// The privileges that the process drops when it starts to serve.
#[derive(Clone, Debug, Default)]
pub struct ProcessConfig {
    /// The user to become.
    pub identity: Option<user::Identity>,
    /// Filter the workers' system calls.
    pub seccomp: bool,
}

/// The listeners that are served with TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    pub runner: Option<Arc<tls::Identity>>,
    pub dispatch: Option<Arc<tls::Identity>>,
}

/// What the broker does about deployment tokens.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    pub mode: TokenMode,
    /// Where the secrets come from. `None` where `mode` needs none.
    pub source: Option<SecretSource>,
    /// Logged at start.
    pub warnings: Vec<String>,
}

/// Where spans are sent, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// The URL that spans are posted to. `None`: no traces.
    pub endpoint: Option<String>,
    /// Limits one export, and the final exports when the process ends.
    pub timeout: Duration,
    /// Recorded dispatches that a worker reports per second.
    pub dispatches_per_second: u32,
    /// Spans in the queue for the collector.
    pub queued_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A level, or directives such as `info,pilotlight::control=debug`.
    pub filter: String,
}
