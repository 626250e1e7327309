//! The state of all workers at one moment.

use super::pools;
use crate::api::{Cordon, Pool};
use crate::broker::report::{Selector, WorkerReport};
use std::collections::BTreeSet;

/// What one worker reported.
#[derive(Clone, Debug)]
pub struct WorkerState {
    /// The worker's latest report. A stalled worker's report is older than the others.
    pub report: WorkerReport,
    /// The worker did not answer this request.
    pub stalled: bool,
}

/// One entry per worker, by index.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub workers: Vec<WorkerState>,
    /// The reports have their rows per key.
    pub with_keys: bool,
}

impl Snapshot {
    /// The sum of one number over all workers.
    pub fn total(&self, number: impl Fn(&WorkerReport) -> u64) -> u64 {
        self.workers.iter().map(|worker| number(&worker.report)).sum()
    }

    /// The indexes of the workers that did not answer.
    pub fn stalled(&self) -> Vec<usize> {
        let stalled = self.workers.iter().filter(|worker| worker.stalled);
        stalled.map(|worker| worker.report.worker).collect()
    }

    /// The cordons that are in force on at least one worker.
    pub fn cordons_in_force(&self) -> BTreeSet<Selector> {
        let workers = self.workers.iter();
        workers.flat_map(|worker| worker.report.cordons.iter().cloned()).collect()
    }

    /// The same, as the API lists them.
    pub fn cordons(&self) -> Vec<Cordon> {
        let listed = |selector| match selector {
            Selector::Node(name) => Cordon { node: Some(name), deployment: None },
            Selector::Deployment(id) => Cordon { node: None, deployment: Some(id) },
        };
        self.cordons_in_force().into_iter().map(listed).collect()
    }

    /// The pools, merged over the workers and sorted by key. Empty unless the reports have rows per key.
    pub fn pools(&self) -> Vec<Pool> {
        pools::merge(&self.workers)
    }
}
