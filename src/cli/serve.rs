//! The flags of `pilotlight serve`, as typed. `config` turns them into a `ServeConfig`.

use super::traces::TraceFlags;
use super::values::{
    Auto, Bytes, Count, DescriptorTables, EngineChoice, FileMode, Limit, LogFormat, Micros, Millis,
};
use crate::broker::settings::{Confirm, MatchOrder, TokenMode};
use clap::Args;
use std::path::PathBuf;

const LISTENING: &str = "Listening";
const WORKERS: &str = "Workers";
const MATCHING: &str = "Matching";
const DELIVERY: &str = "Delivery: what makes a warm start true";
const TOKENS: &str = "Deployment tokens: which runner may wait for which deployment";
const LIMITS: &str = "Limits";
const TIMEOUTS: &str = "Timeouts";
const DEAD_PEERS: &str = "Dead peers: noticing machines that vanished without a word";
const TLS: &str = "TLS: on the runner and the dispatch side, read again on SIGHUP";
const TRUST: &str = "Trust: who may do what, and what the process gives up";
const WATCHING: &str = "Watching: metrics and the page at the admin side's root";
const LOGGING: &str = "Logging";

/// The flags of `pilotlight serve`, as typed.
#[derive(Args, Clone, Debug)]
pub struct ServeFlags {
    /// Runner side: GET /connect and GET /warm-start
    ///
    /// Give this address to Trigger.dev's supervisor as TRIGGER_WARM_START_URL. Port 0 takes a free port; the log names it. A listener named `runner` that systemd hands over takes this one's place.
    #[arg(long, value_name = "IP:PORT", env = "PILOTLIGHT_LISTEN", default_value = "127.0.0.1:8040", help_heading = LISTENING)]
    pub listen: String,

    /// Supervisor side: POST /warm-start. Unset: served on --listen too
    ///
    /// With its own listener the runner side no longer takes dispatches, so that task code, which can reach the runner side, cannot forge one. Give it to the supervisor as TRIGGER_WARM_START_DISPATCH_URL.
    #[arg(long, value_name = "IP:PORT|unix:PATH", env = "PILOTLIGHT_DISPATCH_LISTEN", help_heading = LISTENING)]
    pub dispatch_listen: Option<String>,

    /// Operators' side: a page at its root; /healthz, /readyz, /metrics, /status, /cordon, /api
    #[arg(long, value_name = "IP:PORT|unix:PATH", env = "PILOTLIGHT_ADMIN_LISTEN", default_value = "127.0.0.1:8042", help_heading = LISTENING)]
    pub admin_listen: String,

    /// Permissions of the files of unix: listeners, in octal; to connect is to write
    #[arg(long, value_name = "MODE", env = "PILOTLIGHT_UNIX_MODE", default_value = "660", help_heading = LISTENING)]
    pub unix_mode: FileMode,

    /// Join the addresses of a running pilotlight instead of refusing to share them
    ///
    /// For an upgrade without a gap: start the new one with --takeover, wait for its /readyz, then stop the old one with SIGTERM. The old one sends every new connection to the new one before it closes its listeners.
    #[arg(long, env = "PILOTLIGHT_TAKEOVER", help_heading = LISTENING)]
    pub takeover: bool,

    /// Connections that may queue for acceptance, per worker
    ///
    /// After a restart a whole fleet comes back within a second. The kernel caps this at the sysctl net.core.somaxconn; the log warns if it does.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_BACKLOG", default_value = "65535", help_heading = LISTENING)]
    pub backlog: Count,

    /// Only these networks may dispatch, such as 10.0.3.0/24,fd00::7; the others get 403
    ///
    /// Holds on every TCP listener that takes dispatches. Through a Unix domain socket the file's permissions decide.
    #[arg(long, value_name = "CIDR,…", env = "PILOTLIGHT_DISPATCH_ALLOW", help_heading = TRUST)]
    pub dispatch_allow: Option<String>,

    /// Take dispatches from whoever reaches --listen, though that is not loopback
    ///
    /// Then any task's code can feed a false run to any other's runner. Only where no code but your own runs.
    #[arg(long, env = "PILOTLIGHT_INSECURE_SHARED_DISPATCH", help_heading = TRUST)]
    pub insecure_shared_dispatch: bool,

    /// A file whose content is the token that admin actions which change something take
    ///
    /// At least 16 characters; sent as `Authorization: Bearer …`. Without it, such actions are taken on loopback and on Unix domain sockets only.
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_ADMIN_TOKEN_FILE", help_heading = TRUST)]
    pub admin_token_file: Option<PathBuf>,

    /// Become this user and group once every listener is bound, by name or number
    ///
    /// Without :GROUP the user's own group. All other groups are given up.
    #[arg(long, value_name = "NAME[:GROUP]", env = "PILOTLIGHT_USER", help_heading = TRUST)]
    pub user: Option<String>,

    /// Refuse the workers every system call that they have no use for (seccomp)
    #[arg(long, env = "PILOTLIGHT_SECCOMP", help_heading = TRUST)]
    pub seccomp: bool,

    /// Serve --listen with TLS: the certificate, and those that lead to its authority behind it, in PEM
    ///
    /// TLS 1.2 and 1.3. Needs --tls-key. Without --dispatch-listen dispatches come this way too.
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_TLS_CERT", help_heading = TLS)]
    pub tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, in PEM, without a passphrase
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_TLS_KEY", help_heading = TLS)]
    pub tls_key: Option<PathBuf>,

    /// Serve --dispatch-listen with TLS: its certificate
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_DISPATCH_TLS_CERT", help_heading = TLS)]
    pub dispatch_tls_cert: Option<PathBuf>,

    /// The key of --dispatch-tls-cert
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_DISPATCH_TLS_KEY", help_heading = TLS)]
    pub dispatch_tls_key: Option<PathBuf>,

    /// Take dispatches only from clients with a certificate that one of these authorities has signed (mutual TLS)
    ///
    /// A supervisor has none to show by itself: a proxy beside it must.
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_DISPATCH_CLIENT_CA", help_heading = TLS)]
    pub dispatch_client_ca: Option<PathBuf>,

    /// CPUs to pin one worker each to, such as 0-3,6
    #[arg(long, value_name = "LIST", env = "PILOTLIGHT_CPUS", help_heading = WORKERS)]
    pub cpus: Option<String>,

    /// How many workers to run, not pinned [default: one per CPU that the process may use]
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_WORKERS", help_heading = WORKERS)]
    pub workers: Option<Count>,

    /// What moves the bytes
    #[arg(long, value_name = "ENGINE", env = "PILOTLIGHT_ENGINE", default_value = "auto", help_heading = WORKERS)]
    pub engine: EngineChoice,

    /// Whose table the descriptors of connections are in
    ///
    /// With one for all, a worker on epoll that has a run for another that sleeps handles it in its place, which costs less than to wake it. With one for each worker the limit of open files counts for each of them, workers take no lock of each other's for a new connection, and a call on one takes less time; then the connections are listed in /proc/PID/task/TID/fd of their worker, where most tools do not look.
    #[arg(long, value_name = "WHOSE", env = "PILOTLIGHT_DESCRIPTOR_TABLES", default_value = "auto", help_heading = WORKERS)]
    pub descriptor_tables: DescriptorTables,

    /// In busy times a worker rests this long between turns, and work gathers; 0s: never
    ///
    /// To sleep and be woken costs more than to serve a request, so a busy worker lets them gather, as network cards do (interrupt coalescing). A lone request is served at once, and so is everything where a worker has time to spare. auto: 300us with --confirm read, where each run costs a connection and a match is some ten events; 0s with the others, where there is little to save.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_COALESCE", default_value = "auto", help_heading = WORKERS)]
    pub coalesce: Auto<Micros>,

    /// The share of a processor's time, in percent, from which a worker is busy in the sense of --coalesce
    ///
    /// It is taken anew every 100 ms. With rests a worker needs less, so it goes on with them down to 80 % of this; one that falls below at once is left without them for 4 s, the next time for 8, up to 64. 1: nearly wherever turn follows turn.
    #[arg(long, value_name = "PERCENT", env = "PILOTLIGHT_COALESCE_FROM_PERCENT", default_value = "50", help_heading = WORKERS)]
    pub coalesce_from_percent: Count,

    /// How long a runner holds one poll; handed out by /connect
    ///
    /// Above 0 and below 300s, where the runners' HTTP client gives up on any answer.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_CONNECTION_TIMEOUT", default_value = "30s", help_heading = MATCHING)]
    pub connection_timeout: Millis,

    /// How long an idle runner keeps polling before it exits; handed out by /connect
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_KEEPALIVE", default_value = "5m", help_heading = MATCHING)]
    pub keepalive: Millis,

    /// Which of a key's waiting polls gets the next run
    #[arg(long, value_name = "ORDER", env = "PILOTLIGHT_MATCH_ORDER", default_value = "newest", help_heading = MATCHING)]
    pub match_order: MatchOrder,

    /// A poll with less time left than this is not offered a run
    ///
    /// The runner's own timer started earlier than the broker's. auto: 500ms or a tenth of --connection-timeout, whichever is less. 0s turns it off.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_GUARD", default_value = "auto", help_heading = MATCHING)]
    pub guard: Auto<Millis>,

    /// When a dispatch is answered true
    #[arg(long, value_name = "PROOF", env = "PILOTLIGHT_CONFIRM", default_value = "read", help_heading = DELIVERY)]
    pub confirm: Confirm,

    /// A runner whose kernel is silent for this long is given up, and the run offered to the next
    ///
    /// 300ms leaves room for one lost packet (retransmitted after 200ms). Less than --dispatch-timeout.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_ACK_TIMEOUT", default_value = "300ms", help_heading = DELIVERY)]
    pub ack_timeout: Millis,

    /// A runner that received a run but does not read it for this long is given up (--confirm read)
    ///
    /// It is frozen: stopped, paused, or stuck in its event loop. Less than --dispatch-timeout.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_READ_TIMEOUT", default_value = "1s", help_heading = DELIVERY)]
    pub read_timeout: Millis,

    /// Runners that one run is offered to before the answer is false (1 to 255)
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_ATTEMPTS", default_value = "3", help_heading = DELIVERY)]
    pub max_attempts: Count,

    /// In a turn with so many events late acknowledgements are looked for, not announced (--confirm ack, epoll). Or off
    ///
    /// A runner on the same machine has acknowledged by the time that the send is over, and nothing is announced. For others: to have the kernel announce an acknowledgement is prompt and costs an event; a busy worker finds it cheaper by looking at the connection's send queue when it comes by again. Both are the same proof.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_ACK_CHECK_FROM_EVENTS", default_value = "16", help_heading = DELIVERY)]
    pub ack_check_from_events: Limit,

    /// In a turn with so many events responses go through the ring, all in one call; in others each at once (io_uring). Or off: never through the ring
    ///
    /// Through the ring a response costs a turn more until its sending, and its acknowledgement, are known. Many share that, a lone one waits for it. A run's with --confirm read is the last of its connection and goes at once in any case.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_RING_FROM_EVENTS", default_value = "8", help_heading = DELIVERY)]
    pub ring_from_events: Limit,

    /// A dispatch is answered within this, whatever happens
    ///
    /// The supervisor sets no limit of its own and waits. False costs a cold start, and is always safe.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_DISPATCH_TIMEOUT", default_value = "2s", help_heading = DELIVERY)]
    pub dispatch_timeout: Millis,

    /// What is done about deployment tokens [default: off, if there is no secret]
    ///
    /// As the supervisor's WORKLOAD_TOKEN_ENFORCEMENT, which is asked if this is unset. Where there is a secret it must be said: begin with log, and go on to enforce when the log is quiet.
    #[arg(long, value_name = "MODE", env = "PILOTLIGHT_TOKEN_MODE", help_heading = TOKENS)]
    pub token_mode: Option<TokenMode>,

    /// The secrets that tokens are signed with, one on each line; read again on SIGHUP
    ///
    /// The supervisor's WORKLOAD_TOKEN_SECRET; during a rotation the old one and the new one. Unset: PILOTLIGHT_TOKEN_SECRET or WORKLOAD_TOKEN_SECRET from the environment, one secret. There is no flag for the secret itself: everybody on the machine can read a command line.
    #[arg(long, value_name = "PATH", env = "PILOTLIGHT_TOKEN_SECRET_FILE", help_heading = TOKENS)]
    pub token_secret_file: Option<PathBuf>,

    /// Verified tokens remembered, per worker
    ///
    /// A fleet has one per deployment. Beyond it verification begins anew, some microseconds each.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_TOKENS", default_value = "4096", help_heading = TOKENS)]
    pub max_tokens: Count,

    /// Open connections, in all; half of them are divided among the workers, the other half is whose comes first
    ///
    /// An idle runner holds two sockets, three at its peak. auto: what the limit of open files allows. The soft limit is raised to the hard one at start; to go beyond, raise that (`ulimit -Hn`, LimitNOFILE in a systemd unit).
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_CONNECTIONS", default_value = "auto", help_heading = LIMITS)]
    pub max_connections: Auto<Count>,

    /// Open connections of one address (of one /64 for IPv6), in all; one more is closed. Or off
    ///
    /// off: whole fleets come from one address where there is NAT or a proxy. Where each machine has its own, a few times its runners' sockets is a good bound.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_CONNECTIONS_PER_ADDRESS", default_value = "off", help_heading = LIMITS)]
    pub max_connections_per_address: Limit,

    /// Held polls of one deployment, whatever its version and machine, per worker; one more is closed. Or off
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_POLLS_PER_DEPLOYMENT", default_value = "off", help_heading = LIMITS)]
    pub max_polls_per_deployment: Limit,

    /// Held polls of one key, per worker; one more is closed. Or off
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_POLLS_PER_KEY", default_value = "off", help_heading = LIMITS)]
    pub max_polls_per_key: Limit,

    /// Bytes in flight, in all: incomplete requests and runs that are not delivered yet
    ///
    /// Incomplete requests get three quarters of it. Past that they get 503 (what may be a poll is closed), and complete dispatches false. auto: 128MiB, or four times --max-body, or 1MiB per worker, whichever is most.
    #[arg(long, value_name = "SIZE", env = "PILOTLIGHT_MAX_BUFFERED", default_value = "auto", help_heading = LIMITS)]
    pub max_buffered: Auto<Bytes>,

    /// Distinct keys (deployment, version, cpu, memory) remembered, per worker
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_KEYS", default_value = "65536", help_heading = LIMITS)]
    pub max_keys: Count,

    /// A request's body; a dispatch above it gets 413
    #[arg(long, value_name = "SIZE", env = "PILOTLIGHT_MAX_BODY", default_value = "16MiB", help_heading = LIMITS)]
    pub max_body: Bytes,

    /// A request's line and header fields; above it: 431
    #[arg(long, value_name = "SIZE", env = "PILOTLIGHT_MAX_HEAD", default_value = "16KiB", help_heading = LIMITS)]
    pub max_head: Bytes,

    /// What a client may send ahead of its answer before reading pauses (TCP back-pressure)
    #[arg(long, value_name = "SIZE", env = "PILOTLIGHT_MAX_PIPELINED", default_value = "64KiB", help_heading = LIMITS)]
    pub max_pipelined: Bytes,

    /// From a request's first byte to its last
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_REQUEST_TIMEOUT", default_value = "30s", help_heading = TIMEOUTS)]
    pub request_timeout: Millis,

    /// A connection that has served and carries no request
    ///
    /// Above 4s, which is how long the clients keep theirs: the shorter side must be the client's.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_IDLE_TIMEOUT", default_value = "60s", help_heading = TIMEOUTS)]
    pub idle_timeout: Millis,

    /// A connection that has not sent a byte yet
    ///
    /// Runners open the next poll's connection one poll ahead. auto: 2.5 times --connection-timeout and 5s.
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_PRECONNECT_TIMEOUT", default_value = "auto", help_heading = TIMEOUTS)]
    pub preconnect_timeout: Auto<Millis>,

    /// A response (other than a run's) that its client does not read
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_WRITE_TIMEOUT", default_value = "10s", help_heading = TIMEOUTS)]
    pub write_timeout: Millis,

    /// On SIGTERM the held polls are closed one by one over this time
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_SHUTDOWN_TIME", default_value = "5s", help_heading = TIMEOUTS)]
    pub shutdown_time: Millis,

    /// TCP_USER_TIMEOUT: sent bytes that stay unacknowledged; 0s leaves the kernel's
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_TCP_USER_TIMEOUT", default_value = "8s", help_heading = DEAD_PEERS)]
    pub tcp_user_timeout: Millis,

    /// TCP_KEEPIDLE: silence before the first probe; whole seconds
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_TCP_KEEPALIVE_IDLE", default_value = "4s", help_heading = DEAD_PEERS)]
    pub tcp_keepalive_idle: Millis,

    /// TCP_KEEPINTVL: between two probes; whole seconds
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_TCP_KEEPALIVE_INTERVAL", default_value = "2s", help_heading = DEAD_PEERS)]
    pub tcp_keepalive_interval: Millis,

    /// TCP_KEEPCNT: unanswered probes after which the peer is dead (1 to 127)
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_TCP_KEEPALIVE_COUNT", default_value = "2", help_heading = DEAD_PEERS)]
    pub tcp_keepalive_count: Count,

    /// Deployments that have a sample of their own in /metrics; the others share one
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_METRICS_DEPLOYMENTS", default_value = "100", help_heading = WATCHING)]
    pub metrics_deployments: Count,

    /// Answered dispatches that are remembered for the page and /api/dispatches
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_RECENT_DISPATCHES", default_value = "500", help_heading = WATCHING)]
    pub recent_dispatches: Count,

    /// Dispatches that each worker tells of per second while nobody watches
    ///
    /// Those beyond are counted, not remembered. While a page is open it is at least 1000; with the log at debug all of them.
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_SAMPLED_DISPATCHES", default_value = "50", help_heading = WATCHING)]
    pub sampled_dispatches: Count,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub traces: TraceFlags,

    /// The form of a log line; logs go to standard error
    #[arg(long, value_name = "FORMAT", env = "PILOTLIGHT_LOG_FORMAT", default_value = "text", help_heading = LOGGING)]
    pub log_format: LogFormat,

    /// off, error, warn, info or debug; or per module, such as info,pilotlight::control=debug
    #[arg(long, value_name = "LEVEL", env = "PILOTLIGHT_LOG_LEVEL", default_value = "info", help_heading = LOGGING)]
    pub log_level: String,
}
