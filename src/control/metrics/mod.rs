//! `/metrics`: OpenMetrics text. What it says of a worker's counters is declared with the counters.

mod families;
mod histograms;
mod process;
#[cfg(test)]
mod tests;

use super::status::{About, confirm_name};
use super::traces;
use super::workers::Snapshot;
use crate::broker::counters::{CounterUnit, FAMILIES, Family};
use crate::sys::process::Figures;
use families::GAUGES;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

/// What `/metrics` answers with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the page says besides the workers' numbers.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What is running.
    pub about: About,
    /// Open connections that are allowed.
    pub connections_max: usize,
    /// Deployments that have a sample of their own.
    pub deployments_max: usize,
    /// What became of spans.
    pub traces: Arc<traces::Figures>,
    /// What the process takes.
    pub process: Figures,
}

/// Writes the page. Deployments are on it if the snapshot has its rows per key.
pub fn render(facts: Facts, snapshot: &Arc<Snapshot>) -> String {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("engine", facts.about.engine),
        ("confirm", confirm_name(facts.about.confirm)),
    ]);
    registry.register("pilotlight_build", "What is running", build);
    registry.register_collector(Box::new(Page { snapshot: snapshot.clone(), facts }));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a String takes whatever is written");
    page
}

struct Page {
    snapshot: Arc<Snapshot>,
    facts: Facts,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.broker(&mut encoder)?;
        families::spans(&mut encoder, &self.facts.traces)?;
        families::waiting_by_deployment(&mut encoder, &self.snapshot, self.facts.deployments_max)?;
        for (name, help, of) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for worker in &self.snapshot.workers {
                let index = worker.report.worker.to_string();
                ConstGauge::new(of(worker)).encode(metric.encode_family(&[("worker", index.as_str())])?)?;
            }
        }
        FAMILIES.iter().try_for_each(|family| self.family(&mut encoder, family))?;
        histograms::encode(&mut encoder, &self.snapshot)?;
        process::encode(&mut encoder, &self.facts.process)
    }
}

impl Page {
    /// Numbers of the broker as a whole.
    fn broker(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let &Facts { about, connections_max, .. } = &self.facts;
        let cordons = super::cordon::in_force(&self.snapshot).len();
        for (name, help, unit, value) in [
            (
                "pilotlight_shutting_down",
                "1 once the process is on its way out.",
                None,
                f64::from(u8::from(about.shutting_down)),
            ),
            (
                "pilotlight_cordons",
                "Nodes and deployments that runs are kept away from.",
                None,
                cordons as f64,
            ),
            (
                "pilotlight_connections_limit",
                "Connections that may be open (--max-connections).",
                None,
                connections_max as f64,
            ),
            (
                "pilotlight_uptime",
                "Since the workers started to serve.",
                Some(Unit::Seconds),
                about.uptime.as_secs_f64(),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)?;
        }
        Ok(())
    }

    /// One family of the workers' counters.
    fn family(&self, encoder: &mut DescriptorEncoder, family: &Family) -> fmt::Result {
        let name = format!("pilotlight_{}", family.name);
        let unit = match family.unit {
            CounterUnit::Count => None,
            CounterUnit::Bytes => Some(&Unit::Bytes),
        };
        let mut metric = encoder.encode_descriptor(&name, family.help, unit, MetricType::Counter)?;
        for worker in &self.snapshot.workers {
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
}
