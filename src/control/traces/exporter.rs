//! Sends spans from the queue to the collector, in batches. A collector that is down, slow or refuses costs
//! spans and one log line a minute, nothing else.

use super::counters::SpanCounters;
use super::http::{Client, LastAnswer};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanExporter as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Spans per request.
const BATCH_SPANS: usize = 512;
/// The pause after a failed export.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The least time between two warnings about a collector that does not take spans.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Takes spans off the queue and sends them.
pub struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    to: SpanExporter,
    last_answer: Arc<LastAnswer>,
    counters: Arc<SpanCounters>,
    warnings: Warnings,
}

impl Exporter {
    /// Sends `spans` to `endpoint`. Fails if the environment (`OTEL_EXPORTER_OTLP_…`) asks for a feature that is not in
    /// this build.
    pub fn new(
        endpoint: &str,
        timeout: Duration,
        spans: mpsc::Receiver<SpanData>,
        counters: Arc<SpanCounters>,
    ) -> Result<Self, ExporterBuildError> {
        let last_answer = Arc::new(LastAnswer::default());
        let mut to = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(timeout, last_answer.clone()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(timeout)
            // The exporter's own retries would block the thread, which also serves the admin side.
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        to.set_resource(&resource());
        info!(endpoint, "traces: the broker exports recorded dispatches to this collector");
        Ok(Exporter { spans, to, last_answer, counters, warnings: Warnings::default() })
    }

    /// Sends until the queue is closed and empty.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        while self.spans.recv_many(&mut batch, BATCH_SPANS).await > 0 {
            self.counters.set_queued(self.spans.len());
            let count = batch.len();
            let batch = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_SPANS));
            // The spans are unsent if this future is dropped before the export ends.
            let mut in_flight = InFlight { count, counters: &self.counters };
            let exported = self.to.export(batch).await;
            in_flight.count = 0;
            let answer = self.last_answer.take();
            match exported {
                Ok(()) => {
                    self.counters.exported(count, answer.rejected);
                    match answer.rejected {
                        0 => self.warnings.succeeded(),
                        rejected => self.warnings.dropped(rejected as usize, &answer.message),
                    }
                }
                Err(error) => {
                    self.counters.export_failed(count);
                    self.warnings.dropped(count, &answer.error.unwrap_or_else(|| error.to_string()));
                    if !self.spans.is_closed() {
                        sleep(RETRY_DELAY).await;
                    }
                }
            }
        }
    }

    /// Waits for `run`, an exporter's task, when the process ends. Aborts the task after `time_max`.
    pub async fn finish(mut run: JoinHandle<()>, time_max: Duration, counters: &SpanCounters) {
        if timeout(time_max, &mut run).await.is_err() {
            run.abort();
            // When it is dropped, the exporter counts its unsent spans.
            let _ = run.await;
            let spans = counters.unsent_total();
            warn!(spans, "the collector was too slow: the last spans were dropped (--otlp-timeout)");
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.counters.unsent(self.spans.len());
    }
}

/// Spans that are being sent.
struct InFlight<'c> {
    count: usize,
    counters: &'c SpanCounters,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.counters.unsent(self.count);
    }
}

/// Warns at most once per [`WARNING_INTERVAL`] that spans were dropped, and logs once when the collector takes spans again.
#[derive(Default)]
struct Warnings {
    warned_at: Option<Instant>,
    /// Since the last warning.
    dropped: usize,
    failing: bool,
}

impl Warnings {
    fn dropped(&mut self, spans: usize, error: &str) {
        self.failing = true;
        self.dropped += spans;
        if self.warned_at.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL) {
            warn!(spans = self.dropped, error, "spans were dropped: the collector does not take them");
            self.warned_at = Some(Instant::now());
            self.dropped = 0;
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!(spans_dropped = std::mem::take(&mut self.dropped), "the collector takes spans again");
        }
    }
}

/// Describes this process. `OTEL_RESOURCE_ATTRIBUTES` may override it, and add to it.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", "pilotlight"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance_id()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

/// A random UUID (RFC 9562, version 4) per start, as OpenTelemetry's conventions recommend.
fn instance_id() -> String {
    let random = u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes());
    let uuid = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
