//! What became of the spans, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the spans.
#[derive(Debug, Default)]
pub struct Figures {
    exported: AtomicU64,
    queued: AtomicU64,
    unsent: AtomicU64,
    dropped: [AtomicU64; REASONS.len()],
}

/// Why spans were dropped, as the metric's label names it.
pub const REASONS: [&str; 3] = ["queue_full", "export_failed", "rejected"];

impl Figures {
    /// The collector took `spans`, `rejected` of them to throw them away.
    pub fn exported(&self, spans: usize, rejected: u64) {
        let rejected = rejected.min(spans as u64);
        self.exported.fetch_add(spans as u64 - rejected, Ordering::Relaxed);
        self.drop(2, rejected);
    }

    /// They did not fit into the queue.
    pub fn queue_full(&self, spans: usize) {
        self.drop(0, spans as u64);
    }

    /// The collector did not take them.
    pub fn export_failed(&self, spans: usize) {
        self.drop(1, spans as u64);
    }

    /// The process ended before they were exported.
    pub fn unsent(&self, spans: usize) {
        self.unsent.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Spans that the process had no time for. Nobody scrapes a process that has ended: it is for the log.
    pub fn unsent_total(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// So many are in the queue now.
    pub fn queued(&self, spans: usize) {
        self.queued.store(spans as u64, Ordering::Relaxed);
    }

    /// Spans that the collector took.
    pub fn exported_total(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans in the queue.
    pub fn queued_now(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Spans dropped, by [`REASONS`].
    pub fn dropped_totals(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.dropped[at].load(Ordering::Relaxed)))
    }

    fn drop(&self, reason: usize, spans: u64) {
        self.dropped[reason].fetch_add(spans, Ordering::Relaxed);
    }
}
