//! Counts what happened to the spans, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what happened to the spans.
#[derive(Debug, Default)]
pub struct SpanCounters {
    exported: AtomicU64,
    queued: AtomicU64,
    unsent: AtomicU64,
    dropped: [AtomicU64; REASONS.len()],
}

/// Why spans were dropped: the values of the metric's label.
const REASONS: [&str; 3] = ["queue_full", "export_failed", "rejected"];

impl SpanCounters {
    /// The collector took `spans`, and rejected `rejected` of them.
    pub fn exported(&self, spans: usize, rejected: u64) {
        let rejected = rejected.min(spans as u64);
        self.exported.fetch_add(spans as u64 - rejected, Ordering::Relaxed);
        self.drop(2, rejected);
    }

    /// `spans` did not fit into the queue.
    pub fn queue_full(&self, spans: usize) {
        self.drop(0, spans as u64);
    }

    /// The collector did not take `spans`.
    pub fn export_failed(&self, spans: usize) {
        self.drop(1, spans as u64);
    }

    /// The process ended before it exported `spans`.
    pub fn unsent(&self, spans: usize) {
        self.unsent.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// For the log only: a process that has ended is not scraped.
    pub fn unsent_total(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// `spans` are in the queue now.
    pub fn set_queued(&self, spans: usize) {
        self.queued.store(spans as u64, Ordering::Relaxed);
    }

    pub fn exported_total(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    pub fn queued_now(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Dropped spans, by reason.
    pub fn dropped_totals(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.dropped[at].load(Ordering::Relaxed)))
    }

    fn drop(&self, reason: usize, spans: u64) {
        self.dropped[reason].fetch_add(spans, Ordering::Relaxed);
    }
}
