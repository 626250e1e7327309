//! Where spans go, and how many.

use super::ConfigError;
use super::resolve::{WATCHED_MAX, count, refuse};
use crate::cli::TraceFlags;
use std::time::Duration;

/// Where spans go, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// The URL that they are posted to; `None`: no traces.
    pub endpoint: Option<String>,
    /// One export, and all the last ones when the process ends.
    pub timeout: Duration,
    /// Recorded dispatches that a worker tells of per second.
    pub dispatches_per_second: u32,
    /// Spans that wait.
    pub queued_max: usize,
}

/// The path that OTLP/HTTP gives to traces.
const PATH: &str = "/v1/traces";
/// A dispatch, its match and as many deliveries as `--max-attempts` can ask for.
const SPANS_PER_DISPATCH_MAX: usize = 2 + u8::MAX as usize;
/// Of about a kilobyte each.
const QUEUED_SPANS_MAX: usize = 1 << 20;
/// Longer, and the end of the process waits for a collector that is not there.
const TIMEOUT_MAX_MS: u64 = 60_000;

pub(super) fn resolve(flags: &TraceFlags) -> Result<TraceConfig, ConfigError> {
    let timeout = flags.otlp_timeout;
    if timeout.0 == 0 || timeout.0 > TIMEOUT_MAX_MS {
        let shown = humantime::format_duration(Duration::from_millis(timeout.0));
        return refuse(
            "--otlp-timeout",
            shown,
            "above 0s and at most 60s: the end of the process waits for it",
        );
    }
    let queued_max = count("--max-queued-spans", flags.max_queued_spans, QUEUED_SPANS_MAX)?;
    if queued_max < SPANS_PER_DISPATCH_MAX {
        return refuse(
            "--max-queued-spans",
            queued_max,
            format!("at least {SPANS_PER_DISPATCH_MAX}: one dispatch may have so many"),
        );
    }
    Ok(TraceConfig {
        endpoint: flags.otlp_endpoint.as_deref().map(endpoint).transpose()?,
        timeout: Duration::from_millis(timeout.0),
        dispatches_per_second: count("--traced-dispatches", flags.traced_dispatches, WATCHED_MAX)? as u32,
        queued_max,
    })
}

/// The whole URL: `/v1/traces` below what was typed, as OpenTelemetry's own variables have it.
fn endpoint(typed: &str) -> Result<String, ConfigError> {
    const FORM: &str =
        "write http:// and the address of a collector's OTLP/HTTP receiver, such as http://127.0.0.1:4318";
    let advice = |advice: &str| refuse("--otlp-endpoint", format_args!("{typed:?}"), advice);
    if typed.starts_with("https://") {
        return advice(
            "spans are sent in the clear: run a collector or an agent beside the broker, and give its http:// address",
        );
    }
    let Some(rest) = typed.strip_prefix("http://") else { return advice(FORM) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_path = |next: u8| next.is_ascii_alphanumeric() || b"-._~/%+:@!$&'()*,;=".contains(&next);
    if !is_authority(authority) || !path.bytes().all(is_path) {
        return advice(FORM);
    }
    if authority.rsplit_once(':').is_some_and(|(_, port)| port == "4317") {
        return advice("4317 is where collectors take gRPC; OTLP/HTTP, which this is, has 4318");
    }
    let path = path.trim_end_matches('/');
    Ok(match path.ends_with(PATH) {
        true => format!("http://{authority}{path}"),
        false => format!("http://{authority}{path}{PATH}"),
    })
}

/// A name or an address, with a port or without.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => (&text[..=end], text[end + 1..].strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_host = match host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|next| next.is_ascii_alphanumeric() || matches!(next, b'.' | b'-' | b'_'))
        }
    };
    let rest = &text[host.len()..];
    is_host && (rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_collectors_and_its_path_is_completed() {
        for (typed, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://tempo:4318/", "http://tempo:4318/v1/traces"),
            ("http://otel_collector.monitoring", "http://otel_collector.monitoring/v1/traces"),
            ("http://[::1]:4318/otlp", "http://[::1]:4318/otlp/v1/traces"),
            ("http://a:1/v1/traces", "http://a:1/v1/traces"),
        ] {
            assert_eq!(endpoint(typed).as_deref(), Ok(whole));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_what_to_do() {
        for (typed, advice) in [
            ("", "write http://"),
            ("127.0.0.1:4318", "write http://"),
            ("http://", "write http://"),
            ("http:///v1/traces", "write http://"),
            ("http://a b:4318", "write http://"),
            ("http://a:0", "write http://"),
            ("http://a:99999", "write http://"),
            ("http://a:4318x", "write http://"),
            ("http://[::1", "write http://"),
            ("http://[::1]4318", "write http://"),
            ("http://user@a:4318", "write http://"),
            ("http://a:4318/?x=1", "write http://"),
            ("https://a:4318", "in the clear"),
            ("http://a:4317", "gRPC"),
        ] {
            let error = endpoint(typed).unwrap_err().to_string();
            assert!(error.contains(advice) && error.contains(&format!("{typed:?}")), "{error}");
        }
    }
}
