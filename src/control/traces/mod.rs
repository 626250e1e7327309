//! Traces: continues a supervisor's trace of a dispatch, as spans for an OpenTelemetry collector.
//!
//! ```text
//! the supervisor's span
//! └ dispatch      from the request's last byte to its answer
//!   ├ match       until a worker claimed a poll, or found none
//!   └ delivery    from the claim to the proof or the failure; one per runner that was offered the run
//! ```
//!
//! Workers report attempts and answered dispatches (`broker::event`). [`Traces`] joins them one read of the event queue
//! after the answer, and queues the spans for the [`exporter`]. Spans that do not fit into the queue are dropped and counted.

mod counters;
mod exporter;
mod http;
mod spans;
#[cfg(test)]
mod tests;

pub use counters::SpanCounters;
pub use exporter::Exporter;

use crate::broker::event::{AttemptEvent, DispatchEvent, DispatchId, Event};
use crate::config::TraceConfig;
use crate::workers::Observed;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SpanData;
use spans::{Clock, SpanBuilder};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How late after `--dispatch-timeout` a dispatch may be reported. After that, its attempts are dropped.
const LATE_EVENTS: Duration = Duration::from_secs(1);

/// An attempt that a worker reported.
#[derive(Debug)]
struct Attempt {
    worker: usize,
    /// In the workers' time, in microseconds.
    ended: u64,
    event: Box<AttemptEvent>,
}

/// A dispatch that a worker reported.
#[derive(Debug)]
struct Answered {
    /// In the workers' time, in microseconds.
    ended: u64,
    event: Box<DispatchEvent>,
}

/// Joins attempts and dispatches.
pub struct Traces {
    attempts: HashMap<DispatchId, Vec<Attempt>>,
    /// Answered since the last read.
    answered: Vec<Answered>,
    /// Answered before the last read. They wait for one more read, because a worker may report an attempt after another worker
    /// has reported that the dispatch's deadline passed.
    due: Vec<Answered>,
    /// Attempts without a dispatch, because its supervisor closed the connection, are dropped at this age.
    attempt_age_max_us: u64,
    /// Dispatches whose attempts are kept.
    attempts_max: usize,
    builder: SpanBuilder,
    clock: Clock,
    queue: mpsc::Sender<SpanData>,
    counters: Arc<SpanCounters>,
}

/// Traces and their exporter; `None` if no endpoint is set. Fails if the environment (`OTEL_EXPORTER_OTLP_…`) asks for
/// a feature that is not in this build.
pub fn start(
    config: &TraceConfig,
    dispatch_timeout_ms: u64,
    counters: &Arc<SpanCounters>,
) -> Result<Option<(Traces, Exporter)>, ExporterBuildError> {
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    let (queue, spans) = mpsc::channel(config.queued_max);
    let exporter = Exporter::new(endpoint, config.timeout, spans, counters.clone())?;
    let traces = Traces {
        attempts: HashMap::new(),
        answered: Vec::new(),
        due: Vec::new(),
        attempt_age_max_us: (Duration::from_millis(dispatch_timeout_ms) + LATE_EVENTS).as_micros() as u64,
        attempts_max: config.queued_max,
        builder: SpanBuilder::new(),
        clock: Clock::default(),
        queue,
        counters: counters.clone(),
    };
    Ok(Some((traces, exporter)))
}

impl Traces {
    /// Takes an event that a worker reported `age` ago, if it belongs to a trace.
    pub fn take(&mut self, observed: Observed, age: Duration) {
        let Observed { worker, event, at } = observed;
        let ended = at.0;
        self.clock = Clock::at(ended + age.as_micros() as u64);
        match event {
            Event::Attempt(event) if event.traced => {
                if self.attempts.len() < self.attempts_max || self.attempts.contains_key(&event.dispatch) {
                    let attempts = self.attempts.entry(event.dispatch).or_default();
                    attempts.push(Attempt { worker, ended, event });
                } else {
                    self.counters.queue_full(1);
                }
            }
            Event::Dispatch(event) if event.origin.traced => self.answered.push(Answered { ended, event }),
            _ => {}
        }
    }

    /// Queues the spans of the dispatches that were answered before the last read.
    pub fn queue_due(&mut self) {
        for answered in std::mem::replace(&mut self.due, std::mem::take(&mut self.answered)) {
            let attempts = self.attempts.remove(&answered.event.id).unwrap_or_default();
            let spans = self.builder.spans(&answered, &attempts, &self.clock);
            self.queue(spans);
        }
        let oldest = self.clock.now_us.saturating_sub(self.attempt_age_max_us);
        self.attempts.retain(|_, attempts| attempts.iter().any(|attempt| attempt.ended >= oldest));
    }

    /// Queues the spans of everything that is left.
    pub fn finish(mut self) {
        self.queue_due();
        self.queue_due();
    }

    /// Queues all spans of a trace, or none.
    fn queue(&self, spans: Vec<SpanData>) {
        match self.queue.try_reserve_many(spans.len()) {
            Ok(permits) => permits.zip(spans).for_each(|(permit, span)| permit.send(span)),
            Err(_) => self.counters.queue_full(spans.len()),
        }
        self.counters.set_queued(self.queue.max_capacity() - self.queue.capacity());
    }
}
