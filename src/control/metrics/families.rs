//! The workers' gauges, and the waiting polls by deployment.

use super::super::traces;
use super::super::workers::{Snapshot, WorkerState};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;

type Gauge = (&'static str, &'static str, fn(&WorkerState) -> u64);

/// Numbers of each worker.
pub const GAUGES: &[Gauge] = &[
    (
        "pilotlight_waiting_polls",
        "Runners waiting for a run now, those of claimed polls included.",
        |worker| worker.report.waiting,
    ),
    ("pilotlight_claimed_polls", "Deliveries under way now.", |worker| worker.report.claimed),
    ("pilotlight_connections", "Open connections.", |worker| worker.report.connections),
    (
        "pilotlight_in_flight_bytes",
        "Bytes of incomplete requests and of runs that are not delivered yet (--max-buffered).",
        |worker| worker.report.buffered_bytes,
    ),
    (
        "pilotlight_worker_stalled",
        "1 if the worker did not answer within a second: its other numbers are old.",
        |worker| u64::from(worker.stalled),
    ),
];

/// The label of all deployments that have no sample of their own.
pub const OTHER: &str = "(other)";

/// The waiting polls of those deployments that have most, and of the others together.
pub fn waiting_by_deployment(
    encoder: &mut DescriptorEncoder,
    snapshot: &Snapshot,
    deployments_max: usize,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "pilotlight_deployment_waiting_polls",
        "Runners waiting for a run now, by deployment: those --metrics-deployments that have most, the others together as (other).",
        None,
        MetricType::Gauge,
    )?;
    for (deployment, waiting) in ranked(snapshot, deployments_max) {
        let deployment = escaped(deployment);
        ConstGauge::new(waiting).encode(metric.encode_family(&[("deployment", &*deployment)])?)?;
    }
    Ok(())
}

/// What became of spans; all 0 without a collector.
pub fn spans(encoder: &mut DescriptorEncoder, figures: &traces::Figures) -> fmt::Result {
    let name = "pilotlight_spans_exported";
    let help = "Spans that the collector took (--otlp-endpoint).";
    let exported = ConstCounter::new(figures.exported_total());
    exported.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    let name = "pilotlight_spans_queued";
    let help = "Spans that wait for the collector (--max-queued-spans).";
    let queued = ConstGauge::new(figures.queued_now());
    queued.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    let name = "pilotlight_spans_dropped";
    let help = "Spans that were dropped, by reason: queue_full (--max-queued-spans), export_failed (the collector was not there, too slow or refused), rejected (it took the request and threw them away).";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, dropped) in figures.dropped_totals() {
        ConstCounter::new(dropped).encode(metric.encode_family(&[("reason", reason)])?)?;
    }
    Ok(())
}

/// As a label's value is written (OpenMetrics, "ABNF": escaped-string). The encoder leaves that to its
/// caller, and clients choose these.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Waiting polls per deployment, most first, what does not fit as [`OTHER`] and last.
fn ranked(snapshot: &Snapshot, deployments_max: usize) -> Vec<(&str, u64)> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for row in snapshot.workers.iter().flat_map(|worker| &worker.report.keys) {
        *waiting.entry(&row.deployment).or_default() += row.waiting;
    }
    // Clients choose the names: one of them may be this.
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
    fn those_that_have_most_are_named_and_nobody_is_lost() {
        let all = [("a", 1), ("b", 5), ("a", 2), ("c", 4), (OTHER, 7), ("idle", 0)];
        assert_eq!(ranked(&snapshot(&all), 2), [("b", 5), ("c", 4), (OTHER, 10)]);
        assert_eq!(ranked(&snapshot(&all), 9), [("b", 5), ("c", 4), ("a", 3), (OTHER, 7)]);
        assert_eq!(ranked(&snapshot(&all), 0), [(OTHER, 19)]);
        assert_eq!(ranked(&snapshot(&[]), 9), [(OTHER, 0)]);
    }
}
