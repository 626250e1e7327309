//! The process's CPU time, memory and descriptors, under the names that Prometheus' client libraries use.

use crate::sys::process::Figures;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// Writes the figures that the kernel reports.
pub fn encode(encoder: &mut DescriptorEncoder, figures: &Figures) -> fmt::Result {
    if let Some(cpu) = figures.cpu {
        let help = "CPU time of all threads, in user and kernel mode.";
        let metric =
            encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(cpu.as_secs_f64()).encode(metric)?;
    }
    let count = |figure: Option<u64>| figure.map(|figure| figure as f64);
    for (name, help, unit, value) in [
        (
            "process_resident_memory",
            "Resident memory size.",
            Some(Unit::Bytes),
            count(figures.resident_bytes),
        ),
        ("process_virtual_memory", "Virtual memory size.", Some(Unit::Bytes), count(figures.virtual_bytes)),
        (
            "process_open_fds",
            "Open file descriptors, in all descriptor tables.",
            None,
            count(figures.open_fds),
        ),
        (
            "process_max_fds",
            "Limit of open file descriptors, times the number of descriptor tables (--descriptor-tables).",
            None,
            count(figures.max_fds),
        ),
        (
            "process_start_time",
            "Start time of the process since 1970.",
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
