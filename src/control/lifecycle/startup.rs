//! Parts of the start: the admin side's listener, the control state, and what the log says about limits.

use crate::broker::settings::TokenMode;
use crate::config::{ServeConfig, TokenConfig, flags};
use crate::control::state::{ControlState, Facts, Records};
use crate::sys::listen::{self, ListenError, Opened, Side};
use crate::sys::{descriptors, user};
use std::fmt::Display;
use tracing::{debug, info, warn};

const ADMIN_BACKLOG: u32 = 128;

/// The state before the workers start.
pub fn control_state(config: &ServeConfig) -> ControlState {
    let settings = flags::in_force(config);
    let facts = Facts {
        confirm: config.settings.confirm,
        connections_max: config.connections_max,
        own_tables: if config.own_tables { config.workers.len() } else { 0 },
        metrics_deployments: config.watching.metrics_deployments,
        settings: settings.into_iter().map(|(flag, value)| (flag.to_owned(), value)).collect(),
    };
    let traced_dispatches = match config.traces.endpoint {
        Some(_) => config.traces.dispatches_per_second,
        None => 0,
    };
    let watching = &config.watching;
    let records = Records::new(watching.recent_dispatches, watching.sampled_dispatches, traced_dispatches);
    ControlState::new(facts, records)
}

/// Opens the admin side's listener, and logs its address.
pub fn admin_listener(config: &ServeConfig) -> Result<Opened, ListenError> {
    let options = config.listen_options(ADMIN_BACKLOG);
    let opened = listen::open(Side::Admin, &config.listeners.admin, &options)?;
    log_listening(Side::Admin, &opened.local);
    Ok(opened)
}

/// Tests and scripts read these lines to find out the port.
pub fn log_listening(side: Side, addr: &impl Display) {
    info!(%side, %addr, "listening");
}

/// Logs the descriptor limit, and warns of settings that limit the broker.
pub fn log_limits(config: &ServeConfig) {
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
        warn!("the broker runs as root and does not need to. Set --user to run as another user.");
    }
    let backlog = config.tcp.backlog;
    if let Some(somaxconn) = listen::backlog_max().filter(|somaxconn| *somaxconn < backlog) {
        warn!(
            backlog,
            somaxconn,
            "the kernel limits --backlog, so many runners that connect at once are slowed down. Raise its limit: sysctl -w net.core.somaxconn={backlog}",
        );
    }
}

/// Logs whether deployment tokens are verified, and warns of weak secrets.
pub fn log_tokens(config: &TokenConfig) {
    match config.mode {
        TokenMode::Off => debug!("deployment tokens are not verified (--token-mode off)"),
        TokenMode::Log => {
            info!("deployment tokens are verified; polls with a bad token are held too (--token-mode log)")
        }
        TokenMode::Enforce => {
            info!("polls without a valid deployment token are refused (--token-mode enforce)")
        }
    }
    warn_of_secrets(&config.warnings);
}

pub fn warn_of_secrets(warnings: &[String]) {
    for warning in warnings {
        warn!("token secret: {warning}");
    }
}
