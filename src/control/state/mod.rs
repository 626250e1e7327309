//! The state of the control plane: the settings, the workers' latest reports, and records of them. The
//! [`observer`](super::observer) and the lifecycle change it. The routes read it.

mod explain;
mod history;
mod pools;
mod recent;
mod records;
mod reporter;
mod snapshot;

pub use explain::{closest, explain};
pub use history::{INTERVAL_SECONDS, Totals, reasons};
pub use recent::recorded;
pub use records::{Records, Viewer};
pub use reporter::{REPORT_AGE_MAX, Reply, Reporter, Workers};
pub use snapshot::{Snapshot, WorkerState};

use super::traces::SpanCounters;
use crate::api::Settings;
use crate::broker::settings::Confirm;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The state of the control plane.
pub struct ControlState {
    pub facts: Facts,
    pub records: Records,
    pub spans: Arc<SpanCounters>,
    /// Unset until every worker serves.
    reporter: OnceLock<Reporter>,
    shutting_down: AtomicBool,
}

/// Facts that do not change while the process runs.
#[derive(Clone, Debug)]
pub struct Facts {
    pub confirm: Confirm,
    /// `--max-connections`.
    pub connections_max: usize,
    /// The number of workers with a descriptor table of their own.
    pub own_tables: usize,
    /// Deployments with a sample of their own in `/metrics`.
    pub metrics_deployments: usize,
    pub settings: Settings,
}

/// Facts about the process for `/status`, `/metrics` and `/api/live`.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub engine: &'static str,
    pub confirm: &'static str,
    /// Since the workers started to serve.
    pub uptime: Duration,
    pub shutting_down: bool,
}

/// The workers do not serve yet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the broker is starting")]
pub struct Starting;

impl ControlState {
    /// The state before the workers start.
    pub fn new(facts: Facts, records: Records) -> Self {
        ControlState {
            facts,
            records,
            spans: Arc::default(),
            reporter: OnceLock::new(),
            shutting_down: AtomicBool::new(false),
        }
    }

    /// Call it when every worker serves.
    pub fn set_serving(&self, reporter: Reporter) {
        assert!(self.reporter.set(reporter).is_ok(), "the workers start once");
    }

    pub fn set_shutting_down(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    pub fn reporter(&self) -> Result<&Reporter, Starting> {
        self.reporter.get().ok_or(Starting)
    }

    pub fn about(&self) -> Result<About, Starting> {
        let reporter = self.reporter()?;
        Ok(About {
            engine: reporter.engine_name(),
            confirm: confirm_name(self.facts.confirm),
            uptime: reporter.uptime(),
            shutting_down: self.is_shutting_down(),
        })
    }

    /// The workers that serve and have not answered for longer than `silence`.
    pub fn stalled(&self, silence: Duration) -> Vec<usize> {
        match self.reporter() {
            // Workers end one by one during a shutdown.
            Ok(reporter) if !self.is_shutting_down() => reporter.silent(silence),
            _ => Vec::new(),
        }
    }
}

/// The value of `--confirm`.
pub const fn confirm_name(confirm: Confirm) -> &'static str {
    match confirm {
        Confirm::Read => "read",
        Confirm::Ack => "ack",
        Confirm::Write => "write",
    }
}
