//! The last hour, in samples of ten seconds each.

use super::workers::Snapshot;
use crate::broker::counters::{Counters, FAMILIES};
use crate::broker::report::Times;
use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

/// One sample's length.
pub const INTERVAL_SECONDS: u64 = 10;
/// An hour of them.
pub const SAMPLES_MAX: usize = 360;

/// What happened in one interval, and what stood at its end.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Sample {
    /// Its end, in seconds since 1970.
    pub at: u64,
    /// Dispatches answered true.
    pub warm: u64,
    /// Dispatches that no runner could be offered.
    pub cold: u64,
    /// Dispatches that runners were offered, none of which confirmed.
    pub unconfirmed: u64,
    /// Dispatches refused with a 4xx.
    pub rejected: u64,
    /// The cold by reason; those that there were none of are left out.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Runners that waited at its end.
    pub waiting: u64,
    /// Connections open at its end.
    pub connections: u64,
    /// Half of the deliveries were proved within this.
    pub delivery_p50_us: Option<u64>,
    /// 99 of 100 were.
    pub delivery_p99_us: Option<u64>,
}

/// All workers' counters and times at one moment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    workers: Vec<(Counters, Times)>,
}

impl Totals {
    /// Those of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Totals {
        let report = |worker: &super::workers::WorkerState| {
            (worker.report.counters.clone(), worker.report.times.clone())
        };
        Totals { workers: snapshot.workers.iter().map(report).collect() }
    }

    /// What came since `earlier`, and what stands in `snapshot`.
    pub fn since(&self, earlier: &Totals, snapshot: &Snapshot) -> Sample {
        let mut sample = Sample {
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            waiting: snapshot.total(|worker| worker.waiting),
            connections: snapshot.total(|worker| worker.connections),
            ..Sample::default()
        };
        let mut delivery = crate::broker::histogram::Histogram::default();
        let nothing = Default::default();
        for (index, (counters, times)) in self.workers.iter().enumerate() {
            let (before, times_before) = earlier.workers.get(index).unwrap_or(&nothing);
            let more = |of: fn(&Counters) -> u64| of(counters).saturating_sub(of(before));
            sample.warm += more(|c| c.warm);
            sample.cold += more(Counters::cold);
            sample.unconfirmed += more(|c| c.unconfirmed);
            sample.rejected += more(|c| c.dispatches_rejected);
            for (reason, count) in reasons().map(|(reason, of)| (reason, more(of))) {
                if count > 0 {
                    *sample.reasons.entry(reason).or_default() += count;
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

/// The reasons of cold, and where they are counted.
pub fn reasons() -> impl Iterator<Item = (&'static str, Count)> {
    let cold = FAMILIES.iter().filter(|family| family.name == "cold");
    cold.flat_map(|family| family.members).map(|member| (member.value, member.of))
}

/// The last hour.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    last: Totals,
}

impl History {
    /// Takes one sample.
    pub fn take(&mut self, snapshot: &Snapshot) {
        let totals = Totals::of(snapshot);
        let sample = totals.since(&self.last, snapshot);
        self.last = totals;
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use super::super::workers::WorkerState;
    use super::*;

    #[test]
    fn a_sample_is_what_came_since_the_last_and_old_ones_go() {
        let mut snapshot = Snapshot {
            workers: vec![0, 1]
                .into_iter()
                .map(|worker| WorkerState { report: report(worker, false), stalled: false })
                .collect(),
            with_keys: false,
        };
        let mut history = History::default();
        history.take(&snapshot);
        let first = history.samples().next().unwrap().clone();
        assert_eq!((first.warm, first.cold, first.unconfirmed, first.waiting), (201, 90, 10, 21));
        assert_eq!(first.delivery_p50_us, None);
        snapshot.workers[1].report.counters.warm += 3;
        snapshot.workers[0].report.counters.cold_parked += 2;
        snapshot.workers[0].report.times.delivery.record(900);
        history.take(&snapshot);
        let second = history.samples().nth(1).unwrap().clone();
        assert_eq!((second.warm, second.cold, second.unconfirmed), (3, 2, 0));
        assert_eq!(second.reasons, BTreeMap::from([("parked", 2)]));
        assert_eq!((second.delivery_p50_us, second.delivery_p99_us), (Some(1_024), Some(1_024)));
        for _ in 0..SAMPLES_MAX {
            history.take(&snapshot);
        }
        assert_eq!(history.samples().count(), SAMPLES_MAX);
        assert_eq!(history.samples().map(|sample| sample.warm).sum::<u64>(), 0);
    }
}
