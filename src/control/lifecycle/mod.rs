//! The life of a broker process: start, serve, shut down.

mod manager;
mod reload;
mod shutdown;
mod signals;
mod startup;
mod watchdog;

pub use signals::Stop;

use super::admin;
use super::admin::server::{self, AdminListener, ServerLimits};
use super::logging;
use super::observer;
use super::state::Reporter;
use super::traces::{self, Exporter};
use crate::broker::report::Command;
use crate::config::{ADMIN_CONNECTIONS_MAX, ServeConfig};
use crate::sys::listen::{ListenError, ListenGroup, Listener, Opened, Side};
use crate::sys::notify;
use crate::workers::{self, StartError, Started};
use opentelemetry_otlp::ExporterBuildError;
use signals::Signals;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::info;

/// Why `serve` ended without a complete shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// The check of the flags does not find every error in a filter.
    #[error("--log-level: {0}. Write a level, or module=level.")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The environment asks for an exporter that this build does not have.
    #[error("--otlp-endpoint: {0}. Check the variables OTEL_EXPORTER_OTLP_….")]
    Traces(#[from] ExporterBuildError),
    #[error("cannot set up the control thread: {0}")]
    Control(#[from] io::Error),
    #[error("the workers ended without a shutdown. This is a bug: the last log lines say more.")]
    WorkersEnded,
    #[error("the shutdown did not complete within {}s: connections were cut", .0.as_secs())]
    ShutdownStuck(Duration),
    /// A second signal.
    #[error("a second {} forced the broker to stop: connections were cut", .0.name())]
    ForcedStop(Stop),
}

/// Serves until a signal. The calling thread becomes the control thread.
pub fn run(config: ServeConfig) -> Result<(), RunError> {
    logging::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config));
    // Does not wait for workers that still run: the process ends now.
    runtime.shutdown_background();
    ended
}

async fn serve(mut config: ServeConfig) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup())?;
    startup::log_limits(&config);
    startup::log_tokens(&config.tokens);
    config.settings.events = observer::logs_events();
    let state = Arc::new(startup::control_state(&config));
    let traces = traces::start(&config.traces, config.settings.dispatch_timeout_ms, &state.spans)?;
    let (traces, exporter) = traces.unzip();
    let Opened { listener, file: _admin_file, .. } = startup::admin_listener(&config)?;
    let admin_group = match &listener {
        Listener::Tcp(listener) => Some(ListenGroup::new(listener, 1)?),
        Listener::Unix(_) => None,
    };
    let routes = admin::router(state.clone(), config.admin_changes.clone());

    let control = admin_group.iter().map(ListenGroup::as_fd).chain([listener.as_fd()]).collect::<Vec<_>>();
    let Started { fleet, workers, mut listen_groups, socket_files: _files } =
        workers::start(&config, &control)?;
    // The workers must have started first: see `workers::start`. Until now clients wait in the kernel's queue.
    let listener = AdminListener::new(listener)?;
    tokio::spawn(server::serve(listener, routes, ServerLimits::new(ADMIN_CONNECTIONS_MAX)));
    listen_groups.extend(admin_group);
    startup::log_listening(Side::Runner, &fleet.bound().runner);
    if let Some(local) = &fleet.bound().dispatch {
        startup::log_listening(Side::Dispatch, local);
    }
    let (worker_count, engine) = (fleet.workers(), fleet.engine_name());
    let reporter = Reporter::new(Arc::new(fleet));
    // The workers record events before /readyz answers 200, so a client that sees 200 also sees events.
    reporter.beat(state.records.allowance()).await;
    state.set_serving(reporter);
    info!(workers = worker_count, %engine, "serving");
    manager::report(notify::ready());

    tokio::spawn(reload::reload_on(hangup, config.tokens.source.clone(), config.tls.clone(), state.clone()));
    tokio::spawn(watchdog::run(state.clone()));
    let exporter = exporter.map(|exporter| tokio::spawn(exporter.run()));
    let (stop_observing, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let observing = tokio::spawn(observer::run(state.clone(), config.tokens.mode, traces, stopped));

    let mut ended = spawn_blocking(move || workers.join());
    let stop = tokio::select! {
        stop = signals.stop() => stop,
        _ = &mut ended => return Err(RunError::WorkersEnded),
    };
    info!(signal = %stop.name(), "shutdown started");
    state.set_shutting_down();
    manager::report(notify::stopping());
    shutdown::hand_over(listen_groups).await;
    if let Ok(reporter) = state.reporter() {
        reporter.send(Command::ShutDown);
    }
    let time_max = shutdown::time_max(&config);
    tokio::select! {
        _ = ended => info!("shutdown complete"),
        stop = signals.stop_again() => return Err(RunError::ForcedStop(stop)),
        () = sleep(time_max) => return Err(RunError::ShutdownStuck(time_max)),
    }
    // The observer reads the last events, and the exporter sends the last spans.
    drop(stop_observing);
    let _ = observing.await;
    if let Some(exporter) = exporter {
        Exporter::finish(exporter, config.traces.timeout, &state.spans).await;
    }
    Ok(())
}
