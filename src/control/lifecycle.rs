//! Start, serve, drain, end.

use super::admin::{self, Admin, Facts};
use super::reload;
use super::server::{self, AdminListener, Bounds};
use super::tokens;
use super::traces::{self, Exporter};
use super::watch::{self, Watch};
use super::watchdog;
use super::workers::Reporter;
use super::{logging, settings};
use crate::broker::report::Command;
use crate::config::{ADMIN_CONNECTIONS_MAX, ServeConfig};
use crate::sys::listen::{self, ListenError, ListenGroup, Listener, Opened, Side};
use crate::sys::{descriptors, notify, user};
use crate::workers::{self, StartError, Started};
use opentelemetry_otlp::ExporterBuildError;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// What a drain may take beyond the times it is configured with.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// A signal this soon after the first is its echo: timeout(1), terminals and wrappers signal a process and its group.
const ECHO: Duration = Duration::from_millis(200);
const ADMIN_BACKLOG: u32 = 128;
/// After the hand-over: time for handshakes that had begun to end in the predecessor's queue.
const HANDSHAKES: Duration = Duration::from_millis(250);

/// Why `serve` ended other than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data plane did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin side did not start.
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// A log filter that looked right and is not.
    #[error("--log-level: {0}: write a level, or module=level")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The environment asks for an exporter that this build does not have.
    #[error("--otlp-endpoint: {0}: see the variables OTEL_EXPORTER_OTLP_…")]
    Traces(#[from] ExporterBuildError),
    /// No runtime, no signals.
    #[error("cannot set up the control plane: {0}")]
    Control(#[from] io::Error),
    /// The workers ended though nobody told them to.
    #[error("the workers ended unasked: this is a bug; the log's last lines say more")]
    WorkersEnded,
    /// The drain took far longer than it may.
    #[error("the drain did not end within {}s: connections were cut", .0.as_secs())]
    ShutdownStuck(Duration),
    /// A second signal.
    #[error("told twice to stop: connections were cut")]
    Impatient(Stop),
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Stop::Interrupt => "SIGINT",
            Stop::Terminate => "SIGTERM",
        }
    }

    /// The exit code by which shells know it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Stop::Interrupt => 130,
            Stop::Terminate => 143,
        }
    }
}

/// Serves until told to stop. The calling thread becomes the control plane.
pub fn run(config: ServeConfig) -> Result<(), RunError> {
    logging::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config));
    // Without waiting for workers that did not end: the process does.
    runtime.shutdown_background();
    ended
}

async fn serve(mut config: ServeConfig) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    report_limits(&config);
    config.settings.events = watch::logs_events();
    tokens::announce(&config.tokens);
    let token_config = config.tokens.clone();
    let otlp_timeout = config.traces.timeout;
    let identities = config.tls.clone();
    let admin = Arc::new(admin(&config).changed(config.admin_changes.clone()));
    let traces = traces::start(&config.traces, config.settings.dispatch_timeout_ms, &admin.traces)?;
    let (traces, exporter) = traces.unzip();
    let Opened { listener, local, file: _admin_file } =
        listen::open(Side::Admin, &config.listeners.admin, &config.listen_options(ADMIN_BACKLOG))?;
    let admin_group = match &listener {
        Listener::Tcp(listener) => Some(ListenGroup::new(listener, 1)?),
        Listener::Unix(_) => None,
    };
    log_listening(Side::Admin, &local);
    let routes = admin::router(admin.clone());

    let shutdown_max = shutdown_time_max(&config);
    let control = admin_group.iter().map(ListenGroup::as_fd).chain([listener.as_fd()]).collect::<Vec<_>>();
    let Started { fleet, workers, mut listen_groups, socket_files: _files } =
        workers::start(&config, &control)?;
    // Not before: see `workers::start`. Who came meanwhile is in the kernel's queue.
    let listener = AdminListener::new(listener)?;
    tokio::spawn(server::serve(listener, routes, Bounds::new(ADMIN_CONNECTIONS_MAX)));
    listen_groups.extend(admin_group);
    log_listening(Side::Runner, &fleet.bound().runner);
    if let Some(local) = &fleet.bound().dispatch {
        log_listening(Side::Dispatch, local);
    }
    let (worker_count, engine) = (fleet.workers(), fleet.engine_name());
    let reporter = Reporter::new(Arc::new(fleet));
    // Whoever finds it ready finds it watched.
    reporter.beat(admin.watch.dispatch_events()).await;
    admin.serving(reporter);
    info!(workers = worker_count, %engine, "serving");
    tell_manager(notify::ready());
    tokio::spawn(reload::reload_on(hangup, token_config.source, identities, admin.clone()));
    let exporter = exporter.map(|exporter| tokio::spawn(exporter.run()));
    let (stop_watching, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let faults = tokens::Summary::new(token_config.mode);
    let watching = tokio::spawn(watch::run(admin.clone(), faults, traces, stopped));
    tokio::spawn(watchdog::watch(admin.clone()));

    let mut ended = spawn_blocking(move || workers.join());
    let stop = tokio::select! {
        stop = signals.stop() => stop,
        _ = &mut ended => return Err(RunError::WorkersEnded),
    };
    info!(signal = %stop.name(), "shutting_down");
    admin.shutting_down();
    tell_manager(notify::stopping());
    hand_over(listen_groups).await;
    if let Ok(reporter) = admin.reporter() {
        reporter.tell(Command::ShutDown);
    }
    tokio::select! {
        _ = ended => info!("drained"),
        stop = signals.stop_again() => return Err(RunError::Impatient(stop)),
        () = sleep(shutdown_max) => return Err(RunError::ShutdownStuck(shutdown_max)),
    }
    // The last events are taken and the last spans sent.
    drop(stop_watching);
    let _ = watching.await;
    if let Some(exporter) = exporter {
        Exporter::finish(exporter, otlp_timeout, &admin.traces).await;
    }
    Ok(())
}

fn admin(config: &ServeConfig) -> Admin {
    let facts = Facts {
        confirm: config.settings.confirm,
        connections_max: config.connections_max,
        own_tables: if config.own_tables { config.workers.len() } else { 0 },
        metrics_deployments: config.watching.metrics_deployments,
        settings: settings::in_force(config),
    };
    let traced_dispatches = match config.traces.endpoint {
        Some(_) => config.traces.dispatches_per_second,
        None => 0,
    };
    let watching = &config.watching;
    Admin::new(facts, Watch::new(watching.recent_dispatches, watching.sampled_dispatches, traced_dispatches))
}

/// Sends the new connections of every listener to a successor, if there is one, and stays until the
/// handshakes that had begun are through. Consumes the groups: they keep their sockets open.
async fn hand_over(groups: Vec<ListenGroup>) {
    let steered = groups.iter().filter(|group| group.steer_to_successor()).count();
    if steered > 0 {
        info!("a successor listens: new connections go to it");
        sleep(HANDSHAKES).await;
        groups.iter().for_each(ListenGroup::release);
    }
}

fn report_limits(config: &ServeConfig) {
    info!(
        limit = config.descriptors.limit,
        limit_of = if config.own_tables { "worker" } else { "process" },
        raised_from = config.descriptors.before,
        max_connections = config.connections_max,
        "descriptors: holds about {} idle runners at {} sockets each",
        descriptors::runners(config.connections_max),
        descriptors::SOCKETS_PER_RUNNER,
    );
    if user::is_root() && config.process.identity.is_none() {
        warn!("running as root, which serving does not take: name a user with --user");
    }
    let backlog = config.tcp.backlog;
    if let Some(somaxconn) = listen::backlog_max().filter(|cap| *cap < backlog) {
        warn!(
            backlog,
            somaxconn,
            "the kernel caps --backlog: a fleet that comes back all at once may be slowed down; sysctl -w net.core.somaxconn={backlog} lifts it",
        );
    }
}

/// Tests and scripts read these lines to find port 0.
fn log_listening(side: Side, addr: &impl Display) {
    info!(%side, %addr, "listening");
}

/// A service manager that cannot be told is not worth dying for.
pub(super) fn tell_manager(told: io::Result<()>) {
    if let Err(error) = told {
        warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}

fn shutdown_time_max(config: &ServeConfig) -> Duration {
    let settings = &config.settings;
    SHUTDOWN_GRACE
        + Duration::from_millis(
            settings.shutdown_time_ms + settings.dispatch_timeout_ms + settings.write_timeout_ms,
        )
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on no signal ends the process by itself.
    fn new() -> io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one that is not the first one's echo.
    async fn stop_again(&mut self) -> Stop {
        let first = Instant::now();
        loop {
            let stop = self.stop().await;
            if first.elapsed() > ECHO {
                return stop;
            }
        }
    }

    async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}
