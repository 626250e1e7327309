//! The workers' measured times, as Prometheus histograms. Each bucket ends at a power of two microseconds.

use crate::broker::histogram::Histogram;
use crate::broker::report::Times;
use crate::control::state::Snapshot;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::ops::RangeInclusive;

struct Timed {
    name: &'static str,
    help: &'static str,
    of: fn(&Times) -> &Histogram,
    /// The buckets end at 2 to the power of these, in microseconds.
    powers: RangeInclusive<u32>,
}

/// Summed over the workers.
const MERGED: &[Timed] = &[
    Timed {
        name: "pilotlight_match",
        help: "From a dispatch's last byte to the claim of a poll, once per attempt. A worker reads its clock once per turn: a dispatch that is matched in the turn in which it arrived took 0. pilotlight_loop_turn_seconds says how long turns are.",
        of: |times| &times.matching,
        powers: 4..=21,
    },
    Timed {
        name: "pilotlight_delivery",
        help: "From the claim of a poll to the proof of delivery (--confirm). Confirmed attempts only.",
        of: |times| &times.delivery,
        powers: 5..=22,
    },
    Timed {
        name: "pilotlight_poll_wait",
        help: "How long polls had waited when a worker claimed them for a run.",
        of: |times| &times.waited,
        powers: 10..=29,
    },
];

/// With a sample per worker.
const PER_WORKER: &[Timed] = &[Timed {
    name: "pilotlight_loop_turn",
    help: "One turn of a worker's event loop, from its wake-up to the end of its work.",
    of: |times| &times.turns,
    powers: 2..=20,
}];

pub fn encode(encoder: &mut DescriptorEncoder, snapshot: &Snapshot) -> fmt::Result {
    for timed in MERGED {
        let mut sum = Histogram::default();
        snapshot.workers.iter().for_each(|worker| sum.add((timed.of)(&worker.report.times)));
        write(begin(encoder, timed)?, &sum, &timed.powers)?;
    }
    for timed in PER_WORKER {
        let mut metric = begin(encoder, timed)?;
        for worker in &snapshot.workers {
            let index = worker.report.worker.to_string();
            let times = (timed.of)(&worker.report.times);
            write(metric.encode_family(&[("worker", index.as_str())])?, times, &timed.powers)?;
        }
    }
    Ok(())
}

fn begin<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    timed: &'e Timed,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(timed.name, timed.help, Some(&Unit::Seconds), MetricType::Histogram)
}

fn write(mut metric: MetricEncoder<'_>, times: &Histogram, powers: &RangeInclusive<u32>) -> fmt::Result {
    let seconds = |us: u64| us as f64 / 1e6;
    let count = times.count();
    let mut buckets = Vec::new();
    let mut before = 0;
    for (bound_us, below) in times.below_powers().filter(|(bound, _)| powers.contains(&bound.ilog2())) {
        buckets.push((seconds(bound_us), below - before));
        before = below;
    }
    // The encoder's name for infinity.
    buckets.push((f64::MAX, count - before));
    metric.encode_histogram::<NoLabelSet>(seconds(times.sum_us()), count, &buckets, None)
}
