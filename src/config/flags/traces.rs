//! Flags about traces: dispatches as spans, for an OpenTelemetry collector.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::monitoring::WATCHED_MAX;
use super::ranges::at_most;
use super::show;
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::serve_config::TraceConfig;
use crate::config::values::{Count, Millis, Value, text};
use http::Uri;
use http::uri::Scheme;
use std::ffi::OsStr;
use std::time::Duration;

/// The path that OTLP/HTTP gives to traces.
const PATH: &str = "/v1/traces";
/// A dispatch, its match, and the most deliveries that `--max-attempts` allows.
const SPANS_PER_DISPATCH_MAX: usize = 2 + u8::MAX as usize;
/// A span takes about a kilobyte.
const QUEUED_SPANS_MAX: usize = 1 << 20;
/// The end of the process waits this long for a collector that does not answer.
const TIMEOUT_MAX_MS: u64 = 60_000;

pub const FLAGS: &[&dyn AnyFlag] = &[&OTLP_ENDPOINT, &OTLP_TIMEOUT, &TRACED_DISPATCHES, &MAX_QUEUED_SPANS];

pub static OTLP_ENDPOINT: Flag<Endpoint> = Flag {
    name: "--otlp-endpoint",
    variable: "PILOTLIGHT_OTLP_ENDPOINT",
    section: Section::Traces,
    form: "URL",
    default: Preset::Unset("no traces"),
    help: "Export spans to this OpenTelemetry collector, by OTLP/HTTP, such as http://127.0.0.1:4318",
    details: "Each dispatch whose traceparent is marked as recorded becomes a span of that trace. The broker sends spans as protobuf to /v1/traces below this URL. OTEL_EXPORTER_OTLP_HEADERS adds header fields, and OTEL_RESOURCE_ATTRIBUTES adds resource attributes.",
    accept: any,
    show: |config| config.traces.endpoint.clone().unwrap_or_else(|| "none: no traces".to_owned()),
};

pub static OTLP_TIMEOUT: Flag<Millis> = Flag {
    name: "--otlp-timeout",
    variable: "PILOTLIGHT_OTLP_TIMEOUT",
    section: Section::Traces,
    form: "DURATION",
    default: Preset::Value("5s"),
    help: "Give up an export after this time; also limits the final exports when the process ends",
    details: "",
    accept: |time| match (1..=TIMEOUT_MAX_MS).contains(&time.0) {
        true => Ok(()),
        false => Err("is out of range. Use a duration from 1ms to 60s: the end of the process waits for it."
            .to_owned()),
    },
    show: |config| show::duration(config.traces.timeout),
};

pub static TRACED_DISPATCHES: Flag<Count> = Flag {
    name: "--traced-dispatches",
    variable: "PILOTLIGHT_TRACED_DISPATCHES",
    section: Section::Traces,
    form: "COUNT",
    default: Preset::Value("200"),
    help: "Recorded dispatches that each worker reports per second; the broker counts the others and does not export them",
    details: "",
    accept: |count| at_most(count, WATCHED_MAX),
    show: |config| config.traces.dispatches_per_second.to_string(),
};

pub static MAX_QUEUED_SPANS: Flag<Count> = Flag {
    name: "--max-queued-spans",
    variable: "PILOTLIGHT_MAX_QUEUED_SPANS",
    section: Section::Advanced,
    form: "COUNT",
    default: Preset::Value("8192"),
    help: "Spans that wait for the collector; the broker drops and counts spans beyond the limit",
    details: "At least 257: one dispatch with 255 attempts has that many.",
    accept: |count| match count.0 >= SPANS_PER_DISPATCH_MAX {
        true => at_most(count, QUEUED_SPANS_MAX),
        false => Err(format!(
            "is too few: one dispatch may have {SPANS_PER_DISPATCH_MAX} spans. Use a whole number from {SPANS_PER_DISPATCH_MAX} to {QUEUED_SPANS_MAX}."
        )),
    },
    show: |config| config.traces.queued_max.to_string(),
};

/// The whole URL that spans are posted to.
#[derive(Debug)]
pub struct Endpoint(String);

impl Value for Endpoint {
    fn read(typed: &OsStr) -> Result<Self, String> {
        endpoint(text(typed)?).map(Endpoint)
    }
}

pub fn resolve(flags: &ServeFlags) -> Result<TraceConfig, ConfigError> {
    Ok(TraceConfig {
        endpoint: flags.find(&OTLP_ENDPOINT)?.map(|Endpoint(url)| url),
        timeout: Duration::from_millis(flags.get(&OTLP_TIMEOUT)?.0),
        dispatches_per_second: flags.get(&TRACED_DISPATCHES)?.0 as u32,
        queued_max: flags.get(&MAX_QUEUED_SPANS)?.0,
    })
}

/// Appends `/v1/traces`, as OpenTelemetry does for its own variables.
fn endpoint(typed: &str) -> Result<String, String> {
    const FORM: &str = "is not the http:// URL of a collector's OTLP/HTTP receiver. Use a value such as http://127.0.0.1:4318.";
    let advice = |advice: &str| Err(advice.to_owned());
    let Ok(url) = typed.parse::<Uri>() else { return advice(FORM) };
    if url.scheme() == Some(&Scheme::HTTPS) {
        return advice(
            "needs TLS, which is not supported for traces. Run a collector or an agent beside the broker, and use its http:// URL.",
        );
    }
    let Some(authority) = url.authority() else { return advice(FORM) };
    // `Uri` takes any digits as a port, and drops a fragment.
    let has_port = authority.as_str().len() > authority.host().len();
    let is_plain = url.scheme() == Some(&Scheme::HTTP) && url.query().is_none() && !typed.contains('#');
    let is_host = !authority.host().is_empty() && !authority.as_str().contains('@');
    if !is_plain || !is_host || (has_port && authority.port_u16().is_none_or(|port| port == 0)) {
        return advice(FORM);
    }
    if authority.port_u16() == Some(4317) {
        return advice(
            "has port 4317, on which collectors take OTLP/gRPC. Use the port for OTLP/HTTP, usually 4318.",
        );
    }
    let path = url.path().trim_end_matches('/');
    Ok(match path.ends_with(PATH) {
        true => format!("http://{authority}{path}"),
        false => format!("http://{authority}{path}{PATH}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_endpoint_is_completed() {
        for (typed, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://tempo:4318/", "http://tempo:4318/v1/traces"),
            ("http://otel_collector.monitoring", "http://otel_collector.monitoring/v1/traces"),
            ("http://[::1]:4318/otlp", "http://[::1]:4318/otlp/v1/traces"),
            ("http://a:1/v1/traces", "http://a:1/v1/traces"),
        ] {
            assert_eq!(endpoint(typed).as_deref().map_err(String::as_str), Ok(whole));
        }
    }

    #[test]
    fn a_bad_endpoint_is_refused_with_what_to_do() {
        for (typed, advice) in [
            ("", "is not the http:// URL"),
            ("127.0.0.1:4318", "is not the http:// URL"),
            ("http://", "is not the http:// URL"),
            ("http:///v1/traces", "is not the http:// URL"),
            ("http://a b:4318", "is not the http:// URL"),
            ("http://a:0", "is not the http:// URL"),
            ("http://a:99999", "is not the http:// URL"),
            ("http://a:4318x", "is not the http:// URL"),
            ("http://[::1", "is not the http:// URL"),
            ("http://[::1]4318", "is not the http:// URL"),
            ("http://user@a:4318", "is not the http:// URL"),
            ("http://a:4318/?x=1", "is not the http:// URL"),
            ("https://a:4318", "needs TLS"),
            ("http://a:4317", "gRPC"),
        ] {
            let error = endpoint(typed).unwrap_err();
            assert!(error.contains(advice), "{typed:?}: {error}");
        }
    }
}
