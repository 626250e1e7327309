//! The records of the control plane, and how many dispatches workers may report for them.

use super::history::SampleLog;
use super::recent::DispatchLog;
use crate::api::{Dispatches, History};
use crate::broker::report::Allowance;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Dispatches that each worker may report per second while a client streams `/api/events`.
const VIEWED_DISPATCHES: u32 = 1_000;

/// The last dispatches and the last hour.
#[derive(Debug)]
pub struct Records {
    dispatches: Mutex<DispatchLog>,
    samples: Mutex<SampleLog>,
    viewers: Arc<AtomicUsize>,
    sampled_dispatches: u32,
    traced_dispatches: u32,
}

/// Counts as a client that streams `/api/events`, until it is dropped.
#[derive(Debug)]
pub struct Viewer(Arc<AtomicUsize>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Records {
    /// Keeps `recent_dispatches`. Per second, each worker may report `sampled_dispatches` while there is no viewer,
    /// and `traced_dispatches` because of their traces.
    pub fn new(recent_dispatches: usize, sampled_dispatches: u32, traced_dispatches: u32) -> Records {
        Records {
            dispatches: Mutex::new(DispatchLog::new(recent_dispatches)),
            samples: Mutex::new(SampleLog::default()),
            viewers: Arc::new(AtomicUsize::new(0)),
            sampled_dispatches,
            traced_dispatches,
        }
    }

    /// The recorded dispatches with a larger number than `after`.
    pub fn dispatches(&self, after: u64) -> Dispatches {
        let dispatches = self.dispatch_log();
        Dispatches { last: dispatches.last(), dispatches: dispatches.after(after) }
    }

    /// The number of the last recorded dispatch; 0 before the first.
    pub fn last_dispatch(&self) -> u64 {
        self.dispatch_log().last()
    }

    pub fn dispatch_log(&self) -> MutexGuard<'_, DispatchLog> {
        self.dispatches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last hour.
    pub fn history(&self) -> History {
        self.sample_log().history()
    }

    pub fn sample_log(&self) -> MutexGuard<'_, SampleLog> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add_viewer(&self) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer(self.viewers.clone())
    }

    /// The dispatches that each worker may report in the next second.
    pub fn allowance(&self) -> Allowance {
        let any = match self.viewers.load(Ordering::Relaxed) {
            0 => self.sampled_dispatches,
            _ => self.sampled_dispatches.max(VIEWED_DISPATCHES),
        };
        Allowance { any, traced: self.traced_dispatches }
    }
}
