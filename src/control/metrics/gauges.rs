//! Metrics that are not counters of a worker: gauges, waiting polls by deployment, and spans.

use super::ProcessFacts;
use crate::control::state::{Snapshot, WorkerState};
use crate::control::traces::SpanCounters;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::fmt;

/// Name, help and value.
type Gauge = (&'static str, &'static str, fn(&WorkerState) -> u64);

const WORKER_GAUGES: &[Gauge] = &[
    (
        "pilotlight_waiting_polls",
        "Runners waiting now: all held polls (matchable, parked, cordoned and claimed).",
        |worker| worker.report.waiting,
    ),
    ("pilotlight_claimed_polls", "Deliveries in progress now.", |worker| worker.report.claimed),
    ("pilotlight_connections", "Open connections.", |worker| worker.report.connections),
    (
        "pilotlight_in_flight_bytes",
        "Bytes of incomplete requests and of runs that are not delivered yet (--max-buffered).",
        |worker| worker.report.buffered_bytes,
    ),
    (
        "pilotlight_worker_stalled",
        "1 if the worker did not answer within a second. Its other numbers are old then.",
        |worker| u64::from(worker.stalled),
    ),
];

/// Numbers of the broker as a whole.
pub fn broker(encoder: &mut DescriptorEncoder, snapshot: &Snapshot, facts: &ProcessFacts) -> fmt::Result {
    for (name, help, unit, value) in [
        (
            "pilotlight_shutting_down",
            "1 from SIGTERM on: the broker answers every dispatch false and closes held polls.",
            None,
            f64::from(u8::from(facts.about.shutting_down)),
        ),
        (
            "pilotlight_cordons",
            "Cordons in force: nodes and deployments that get no runs.",
            None,
            snapshot.cordons_in_force().len() as f64,
        ),
        (
            "pilotlight_connections_limit",
            "Limit of open connections (--max-connections).",
            None,
            facts.connections_max as f64,
        ),
        (
            "pilotlight_uptime",
            "Time since the workers started to serve.",
            Some(Unit::Seconds),
            facts.about.uptime.as_secs_f64(),
        ),
    ] {
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)?;
    }
    Ok(())
}

/// Numbers of each worker.
pub fn workers(encoder: &mut DescriptorEncoder, snapshot: &Snapshot) -> fmt::Result {
    for (name, help, value) in WORKER_GAUGES {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for worker in &snapshot.workers {
            let index = worker.report.worker.to_string();
            ConstGauge::new(value(worker)).encode(metric.encode_family(&[("worker", &*index)])?)?;
        }
    }
    Ok(())
}

/// The label of the deployments without a sample of their own.
const OTHER: &str = "(other)";

/// The waiting polls of the deployments that have most, and of the others together.
pub fn waiting_by_deployment(
    encoder: &mut DescriptorEncoder,
    snapshot: &Snapshot,
    deployments_max: usize,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "pilotlight_deployment_waiting_polls",
        "Runners waiting now, by deployment. The deployments with most runners have a sample each (--metrics-deployments), the others share the sample (other).",
        None,
        MetricType::Gauge,
    )?;
    for (deployment, waiting) in ranked(snapshot, deployments_max) {
        let deployment = escaped(deployment);
        ConstGauge::new(waiting).encode(metric.encode_family(&[("deployment", &*deployment)])?)?;
    }
    Ok(())
}

/// What happened to the spans. All 0 without a collector.
pub fn spans(encoder: &mut DescriptorEncoder, counters: &SpanCounters) -> fmt::Result {
    let name = "pilotlight_spans_exported";
    let help = "Spans that the collector accepted (--otlp-endpoint).";
    let exported = ConstCounter::new(counters.exported_total());
    exported.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    let name = "pilotlight_spans_queued";
    let help = "Spans that are queued for the collector (--max-queued-spans).";
    let queued = ConstGauge::new(counters.queued_now());
    queued.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    let name = "pilotlight_spans_dropped";
    let help = "Spans that were dropped, by reason: queue_full (--max-queued-spans), export_failed (the collector was unreachable, too slow or refused the request), rejected (the collector accepted the request, but not these spans).";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, dropped) in counters.dropped_totals() {
        ConstCounter::new(dropped).encode(metric.encode_family(&[("reason", reason)])?)?;
    }
    Ok(())
}

/// Escapes a label's value (OpenMetrics, "ABNF": escaped-string). The encoder leaves that to its caller, and clients
/// choose the names of deployments.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Waiting polls per deployment, most first. The last entry is [`OTHER`].
fn ranked(snapshot: &Snapshot, deployments_max: usize) -> Vec<(&str, u64)> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for row in snapshot.workers.iter().flat_map(|worker| &worker.report.keys) {
        *waiting.entry(&row.deployment).or_default() += row.waiting;
    }
    // Clients choose the names, and may choose this one.
    let mut other = waiting.remove(OTHER).unwrap_or(0);
    let mut ranked: Vec<(&str, u64)> = waiting.into_iter().filter(|(_, waiting)| *waiting > 0).collect();
    ranked.sort_by_key(|(_, waiting)| std::cmp::Reverse(*waiting));
    other += ranked.iter().skip(deployments_max).map(|(_, waiting)| waiting).sum::<u64>();
    ranked.truncate(deployments_max);
    ranked.push((OTHER, other));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::report::{KeyReport, WorkerReport};

    fn snapshot(rows: &[(&str, u64)]) -> Snapshot {
        let keys = rows.iter().map(|(deployment, waiting)| KeyReport {
            deployment: (*deployment).to_owned(),
            waiting: *waiting,
            ..KeyReport::default()
        });
        let report = WorkerReport { keys: keys.collect(), ..WorkerReport::default() };
        Snapshot { workers: vec![WorkerState { report, stalled: false }], with_keys: true }
    }

    #[test]
    fn deployments_with_most_polls_are_named_and_the_others_are_summed() {
        let all = [("a", 1), ("b", 5), ("a", 2), ("c", 4), (OTHER, 7), ("idle", 0)];
        assert_eq!(ranked(&snapshot(&all), 2), [("b", 5), ("c", 4), (OTHER, 10)]);
        assert_eq!(ranked(&snapshot(&all), 9), [("b", 5), ("c", 4), ("a", 3), (OTHER, 7)]);
        assert_eq!(ranked(&snapshot(&all), 0), [(OTHER, 19)]);
        assert_eq!(ranked(&snapshot(&[]), 9), [(OTHER, 0)]);
    }
}
