//! The process's own figures, under the names that Prometheus' client libraries share.

use crate::sys::process::Figures;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// Writes those that the kernel told.
pub fn encode(encoder: &mut DescriptorEncoder, figures: &Figures) -> fmt::Result {
    if let Some(cpu) = figures.cpu {
        let help = "Processor time, of all threads, in user and kernel.";
        let metric =
            encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(cpu.as_secs_f64()).encode(metric)?;
    }
    let count = |figure: Option<u64>| figure.map(|figure| figure as f64);
    for (name, help, unit, value) in [
        ("process_resident_memory", "Resident memory.", Some(Unit::Bytes), count(figures.resident_bytes)),
        ("process_virtual_memory", "Address space.", Some(Unit::Bytes), count(figures.virtual_bytes)),
        ("process_open_fds", "Open descriptors, in all tables.", None, count(figures.open_fds)),
        (
            "process_max_fds",
            "Descriptors that may be open: the limit, as often as there are tables of them (--descriptor-tables).",
            None,
            count(figures.max_fds),
        ),
        (
            "process_start_time",
            "When the process started, since 1970.",
            Some(Unit::Seconds),
            figures.started_unix_seconds,
        ),
    ] {
        if let Some(value) = value {
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
    }
    Ok(())
}
