//! Traces: what a supervisor records of its dispatch goes on here, as spans for an OpenTelemetry collector.
//!
//! ```text
//! the supervisor's span
//! └ dispatch      from the request's last byte to its answer
//!   ├ match       until a poll was claimed, or none was found
//!   └ delivery    from the claim to the proof, or to what came instead; one for each runner that was offered it
//! ```
//!
//! Workers tell of attempts and of answered dispatches (`broker::event`); here they are put together, a look
//! after the answer, and queued for the [`exporter`]. Nothing waits: what does not fit is dropped and counted.

mod client;
mod exporter;
mod figures;
mod spans;
#[cfg(test)]
mod tests;

pub use exporter::Exporter;
pub use figures::Figures;

use crate::broker::event::{AttemptEvent, DispatchEvent, DispatchId, Event};
use crate::config::TraceConfig;
use crate::workers::Observed;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SpanData;
use spans::{Clock, Maker};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// After a dispatch's timeout: what is told of one of its attempts by then has no dispatch any more.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// An attempt that a worker told of.
#[derive(Debug)]
struct Attempt {
    worker: usize,
    /// In the workers' time, in microseconds.
    ended: u64,
    event: Box<AttemptEvent>,
}

/// A dispatch that a worker told of.
#[derive(Debug)]
struct Answered {
    /// In the workers' time, in microseconds.
    ended: u64,
    event: Box<DispatchEvent>,
}

/// Puts what the workers tell of together.
pub struct Traces {
    attempts: HashMap<DispatchId, Vec<Attempt>>,
    /// Answered since the last look, and before it: a worker may tell of an attempt after another has told of
    /// the dispatch's end, when that came by its deadline.
    answered: Vec<Answered>,
    due: Vec<Answered>,
    /// Attempts whose dispatch was never told of, because its supervisor hung up, are forgotten after this.
    attempt_age_max_us: u64,
    /// Dispatches with attempts that are remembered.
    attempts_max: usize,
    maker: Maker,
    clock: Clock,
    queue: mpsc::Sender<SpanData>,
    figures: Arc<Figures>,
}

/// Traces and their way to the collector; `None` if no endpoint is set.
///
/// # Errors
/// What the environment says of exporters (`OTEL_EXPORTER_OTLP_…`) and this build does not have.
pub fn start(
    config: &TraceConfig,
    dispatch_timeout_ms: u64,
    figures: &Arc<Figures>,
) -> Result<Option<(Traces, Exporter)>, ExporterBuildError> {
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    let (queue, spans) = mpsc::channel(config.queued_max);
    let exporter = Exporter::new(endpoint, config.timeout, spans, figures.clone())?;
    let traces = Traces {
        attempts: HashMap::new(),
        answered: Vec::new(),
        due: Vec::new(),
        attempt_age_max_us: (Duration::from_millis(dispatch_timeout_ms) + STRAGGLERS).as_micros() as u64,
        attempts_max: config.queued_max,
        maker: Maker::new(),
        clock: Clock::default(),
        queue,
        figures: figures.clone(),
    };
    Ok(Some((traces, exporter)))
}

impl Traces {
    /// Takes what a worker told of `age` ago, if it belongs to a trace.
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
                    self.figures.queue_full(1);
                }
            }
            Event::Dispatch(event) if event.origin.traced => self.answered.push(Answered { ended, event }),
            _ => {}
        }
    }

    /// Makes spans of those dispatches that were answered before the last look.
    pub fn looked(&mut self) {
        for answered in std::mem::replace(&mut self.due, std::mem::take(&mut self.answered)) {
            let attempts = self.attempts.remove(&answered.event.id).unwrap_or_default();
            let spans = self.maker.spans(&answered, &attempts, &self.clock);
            self.queue(spans);
        }
        let oldest = self.clock.now_us.saturating_sub(self.attempt_age_max_us);
        self.attempts.retain(|_, attempts| attempts.iter().any(|attempt| attempt.ended >= oldest));
    }

    /// Makes spans of all that is left: nothing more will be told.
    pub fn finish(mut self) {
        self.looked();
        self.looked();
    }

    /// A trace is queued whole or not at all: half of one would only puzzle.
    fn queue(&self, spans: Vec<SpanData>) {
        match self.queue.try_reserve_many(spans.len()) {
            Ok(permits) => permits.zip(spans).for_each(|(permit, span)| permit.send(span)),
            Err(_) => self.figures.queue_full(spans.len()),
        }
        self.figures.queued(self.queue.max_capacity() - self.queue.capacity());
    }
}
