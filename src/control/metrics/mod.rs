//! `/metrics`: OpenMetrics text. The workers' counters declare their own metrics, in `broker::counters`.

mod gauges;
mod histograms;
mod process;
#[cfg(test)]
mod tests;

use super::state::{About, Snapshot};
use super::traces::SpanCounters;
use crate::broker::counters::{CounterUnit, FAMILIES, Family};
use crate::sys::process::Figures;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Facts about the process for `/metrics`.
#[derive(Clone, Debug)]
pub struct ProcessFacts {
    pub about: About,
    pub connections_max: usize,
    /// Deployments with a sample of their own.
    pub deployments_max: usize,
    pub spans: Arc<SpanCounters>,
    pub figures: Figures,
}

/// Renders `/metrics`. It lists deployments if the snapshot has rows per key.
pub fn render(facts: ProcessFacts, snapshot: &Arc<Snapshot>) -> String {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("engine", facts.about.engine),
        ("confirm", facts.about.confirm),
    ]);
    registry.register(
        "pilotlight_build",
        "The broker's version, engine and proof of delivery (--confirm)",
        build,
    );
    registry.register_collector(Box::new(Exposition { snapshot: snapshot.clone(), facts }));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("writing to a String cannot fail");
    page
}

struct Exposition {
    snapshot: Arc<Snapshot>,
    facts: ProcessFacts,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        gauges::broker(encoder, &self.snapshot, &self.facts)?;
        gauges::spans(encoder, &self.facts.spans)?;
        gauges::waiting_by_deployment(encoder, &self.snapshot, self.facts.deployments_max)?;
        gauges::workers(encoder, &self.snapshot)?;
        FAMILIES.iter().try_for_each(|family| counters(encoder, &self.snapshot, family))?;
        histograms::encode(encoder, &self.snapshot)?;
        process::encode(encoder, &self.facts.figures)
    }
}

/// One family of the workers' counters.
fn counters(encoder: &mut DescriptorEncoder, snapshot: &Snapshot, family: &Family) -> fmt::Result {
    let name = format!("pilotlight_{}", family.name);
    let unit = match family.unit {
        CounterUnit::Count => None,
        CounterUnit::Bytes => Some(&Unit::Bytes),
    };
    let mut metric = encoder.encode_descriptor(&name, family.help, unit, MetricType::Counter)?;
    for worker in &snapshot.workers {
        for member in family.members {
            let index = worker.report.worker.to_string();
            let mut labels = vec![("worker", index.as_str())];
            if !family.label.is_empty() {
                labels.push((family.label, member.value));
            }
            let value = (member.of)(&worker.report.counters);
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
