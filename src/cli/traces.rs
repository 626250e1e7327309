//! The flags of `pilotlight serve` about traces, as typed.

use super::values::{Count, Millis};
use clap::Args;

const TRACES: &str = "Traces: dispatches as spans, for an OpenTelemetry collector";

/// The flags about traces, as typed.
#[derive(Args, Clone, Debug)]
pub struct TraceFlags {
    /// Where spans go: a collector's OTLP/HTTP address, such as http://127.0.0.1:4318
    ///
    /// A dispatch whose traceparent says that it is recorded becomes a span of that trace. Sent as protobuf to /v1/traces below this URL. Header fields that the collector asks for: OTEL_EXPORTER_OTLP_HEADERS; further resource attributes: OTEL_RESOURCE_ATTRIBUTES. Unset: nobody looks for traces.
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_OTLP_ENDPOINT", help_heading = TRACES)]
    pub otlp_endpoint: Option<String>,

    /// An export's time, and that of the last ones when the process ends
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_OTLP_TIMEOUT", default_value = "5s", help_heading = TRACES)]
    pub otlp_timeout: Millis,

    /// Recorded dispatches that each worker tells of per second; those beyond are counted, not exported
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_TRACED_DISPATCHES", default_value = "200", help_heading = TRACES)]
    pub traced_dispatches: Count,

    /// Spans that wait for the collector; what does not fit is dropped and counted
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_MAX_QUEUED_SPANS", default_value = "8192", help_heading = TRACES)]
    pub max_queued_spans: Count,
}
