//! The last hour, in samples of ten seconds each.

use super::snapshot::{Snapshot, WorkerState};
use crate::api::{History, Sample};
use crate::broker::counters::{Counters, FAMILIES};
use crate::broker::histogram::Histogram;
use crate::broker::report::Times;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// The length of one sample.
pub const INTERVAL_SECONDS: u64 = 10;
/// An hour of samples.
const SAMPLES_MAX: usize = 360;

/// All workers' counters and times at one moment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    workers: Vec<(Counters, Times)>,
}

impl Totals {
    pub fn new(snapshot: &Snapshot) -> Totals {
        let totals = |worker: &WorkerState| (worker.report.counters.clone(), worker.report.times.clone());
        Totals { workers: snapshot.workers.iter().map(totals).collect() }
    }

    /// What was counted between `earlier` and now, and the state in `snapshot`.
    pub fn since(&self, earlier: &Totals, snapshot: &Snapshot) -> Sample {
        let mut sample = Sample {
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            waiting: snapshot.total(|worker| worker.waiting),
            connections: snapshot.total(|worker| worker.connections),
            ..Sample::default()
        };
        let mut delivery = Histogram::default();
        let nothing = Default::default();
        for (index, (counters, times)) in self.workers.iter().enumerate() {
            let (before, times_before) = earlier.workers.get(index).unwrap_or(&nothing);
            let growth = |count: Count| count(counters).saturating_sub(count(before));
            sample.warm += growth(|c| c.warm);
            sample.cold += growth(Counters::cold);
            sample.unconfirmed += growth(|c| c.unconfirmed);
            sample.rejected += growth(|c| c.dispatches_rejected);
            for (reason, count) in reasons().map(|(reason, count)| (reason, growth(count))) {
                if count > 0 {
                    *sample.reasons.entry(reason.to_owned()).or_default() += count;
                }
            }
            delivery.add(&times.delivery.since(&times_before.delivery));
        }
        sample.delivery_p50_us = delivery.quantile_us(0.5);
        sample.delivery_p99_us = delivery.quantile_us(0.99);
        sample
    }
}

type Count = fn(&Counters) -> u64;

/// The reasons of cold dispatches, each with its counter.
pub fn reasons() -> impl Iterator<Item = (&'static str, Count)> {
    let cold = FAMILIES.iter().filter(|family| family.name == "cold");
    cold.flat_map(|family| family.members).map(|member| (member.value, member.of))
}

/// The samples of the last hour.
#[derive(Debug, Default)]
pub struct SampleLog {
    samples: VecDeque<Sample>,
    last: Totals,
}

impl SampleLog {
    /// Adds a sample: what happened since the last one.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let totals = Totals::new(snapshot);
        let sample = totals.since(&self.last, snapshot);
        self.last = totals;
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub fn history(&self) -> History {
        let samples = self.samples.iter().cloned().collect();
        History { interval_seconds: INTERVAL_SECONDS, samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake_workers::report;
    use std::collections::BTreeMap;

    #[test]
    fn a_sample_counts_from_the_last_one_and_old_samples_are_dropped() {
        let state = |worker| WorkerState { report: report(worker, false), stalled: false };
        let mut snapshot = Snapshot { workers: vec![state(0), state(1)], with_keys: false };
        let mut log = SampleLog::default();
        log.add(&snapshot);
        let first = &log.samples[0];
        assert_eq!((first.warm, first.cold, first.unconfirmed, first.waiting), (201, 90, 10, 21));
        assert_eq!(first.delivery_p50_us, None);
        snapshot.workers[1].report.counters.warm += 3;
        snapshot.workers[0].report.counters.cold_parked += 2;
        snapshot.workers[0].report.times.delivery.record(900);
        log.add(&snapshot);
        let second = &log.samples[1];
        assert_eq!((second.warm, second.cold, second.unconfirmed), (3, 2, 0));
        assert_eq!(second.reasons, BTreeMap::from([("parked".to_owned(), 2)]));
        assert_eq!((second.delivery_p50_us, second.delivery_p99_us), (Some(1_024), Some(1_024)));
        for _ in 0..SAMPLES_MAX {
            log.add(&snapshot);
        }
        let samples = log.history().samples;
        assert_eq!(samples.len(), SAMPLES_MAX);
        assert_eq!(samples.iter().map(|sample| sample.warm).sum::<u64>(), 0);
    }
}
