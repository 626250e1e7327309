//! From the queue to the collector, batch by batch. A collector that is down, slow or refuses costs its
//! spans, one line of the log a minute, and nothing else.

use super::client::{Client, Heard};
use super::figures::Figures;
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

/// Spans of one request.
const BATCH_SPANS: usize = 512;
/// After an export that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// One line about a collector that does not take spans this often.
const LINE: Duration = Duration::from_secs(60);

/// Takes spans off the queue and sends them.
pub struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    to: SpanExporter,
    heard: Arc<Heard>,
    figures: Arc<Figures>,
    complaints: Complaints,
}

impl Exporter {
    /// Sends what comes by `spans` to `endpoint`.
    ///
    /// # Errors
    /// What the environment says of exporters (`OTEL_EXPORTER_OTLP_…`) and this build does not have.
    pub fn new(
        endpoint: &str,
        timeout: Duration,
        spans: mpsc::Receiver<SpanData>,
        figures: Arc<Figures>,
    ) -> Result<Self, ExporterBuildError> {
        let heard = Arc::new(Heard::default());
        let mut to = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(timeout, heard.clone()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(timeout)
            // Its pauses between retries put the thread to sleep, and this one has other things to do.
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        to.set_resource(&resource());
        info!(endpoint, "traces: recorded dispatches go to this collector");
        Ok(Exporter { spans, to, heard, figures, complaints: Complaints::default() })
    }

    /// Sends until nobody can queue any more and the queue is empty.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        while self.spans.recv_many(&mut batch, BATCH_SPANS).await > 0 {
            self.figures.queued(self.spans.len());
            let count = batch.len();
            let batch = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_SPANS));
            // Unsent unless it ends: this future is dropped when the process has no more time.
            let mut under_way = UnderWay { count, figures: &self.figures };
            let exported = self.to.export(batch).await;
            under_way.count = 0;
            let heard = self.heard.take();
            match exported {
                Ok(()) => {
                    self.figures.exported(count, heard.rejected);
                    match heard.rejected {
                        0 => self.complaints.fine(),
                        rejected => self.complaints.lost(rejected as usize, &heard.message),
                    }
                }
                Err(error) => {
                    self.figures.export_failed(count);
                    self.complaints.lost(count, &heard.fault.unwrap_or_else(|| error.to_string()));
                    if !self.spans.is_closed() {
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Waits for `run`, the task that runs one, and gives it up after `within`: the process ends.
    pub async fn finish(mut run: JoinHandle<()>, within: Duration, figures: &Figures) {
        if timeout(within, &mut run).await.is_err() {
            run.abort();
            // Once it has ended what it had left is counted.
            let _ = run.await;
            let spans = figures.unsent_total();
            warn!(spans, "the collector was too slow: the last spans were dropped (--otlp-timeout)");
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.figures.unsent(self.spans.len());
    }
}

struct UnderWay<'f> {
    count: usize,
    figures: &'f Figures,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.figures.unsent(self.count);
    }
}

/// Says once in a while what is wrong, and once that it is over.
#[derive(Default)]
struct Complaints {
    said: Option<Instant>,
    lost: usize,
    wrong: bool,
}

impl Complaints {
    fn lost(&mut self, spans: usize, why: &str) {
        self.wrong = true;
        self.lost += spans;
        if self.said.is_none_or(|said| said.elapsed() >= LINE) {
            warn!(spans = self.lost, error = why, "spans were dropped: the collector does not take them");
            self.said = Some(Instant::now());
            self.lost = 0;
        }
    }

    fn fine(&mut self) {
        if std::mem::take(&mut self.wrong) {
            info!(spans_lost = std::mem::take(&mut self.lost), "the collector takes spans again");
        }
    }
}

/// Who exports. `OTEL_RESOURCE_ATTRIBUTES` may say otherwise, and more.
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

/// A random UUID (RFC 9562, version 4), as OpenTelemetry's conventions recommend: another one with every start.
fn instance_id() -> String {
    let random = u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes());
    let uuid = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
