//! What an open loop found: what one process of the load saw, and what that comes to.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// What is counted, of one process of the load or of all.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub runners: u64,
    pub keys: u64,
    pub dispatched: u64,
    pub hits: u64,
    pub misses: u64,
    pub failed: u64,
    pub true_but_not_delivered: u64,
    pub delivered_but_not_true: u64,
    pub delivered_twice: u64,
    pub renewed: u64,
    #[serde(default)]
    pub refused: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts {
            runners,
            keys,
            dispatched,
            hits,
            misses,
            failed,
            true_but_not_delivered,
            delivered_but_not_true,
            delivered_twice,
            renewed,
            refused,
        } = other;
        self.runners += runners;
        self.keys += keys;
        self.dispatched += dispatched;
        self.hits += hits;
        self.misses += misses;
        self.failed += failed;
        self.true_but_not_delivered += true_but_not_delivered;
        self.delivered_but_not_true += delivered_but_not_true;
        self.delivered_twice += delivered_twice;
        self.renewed += renewed;
        self.refused += refused;
    }
}

/// What one process of the load saw, so that it can be put together with others'.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub rate: f64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the server, whose matches are all processes' of the load.
    pub cpu_ns: u64,
    /// So long it did not run, if it never sleeps. A hypervisor need not say that it took the core.
    #[serde(default)]
    pub stalled_ns: u64,
    pub rss_bytes: u64,
    pub to_runner: Latencies,
    pub to_answer: Latencies,
}

/// Each latency in nanoseconds, and how often it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latencies(Vec<(u64, u64)>);

impl From<&Histogram<u64>> for Latencies {
    fn from(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        Latencies(recorded.map(|row| (row.value_iterated_to(), row.count_since_last_iteration())).collect())
    }
}

/// What an open loop comes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenLoop {
    /// Of the load, each with its share of the polls and of the rate.
    #[serde(default = "one")]
    pub processes: u64,
    pub rate: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub cpu_us_per_match: f64,
    pub rss_bytes: u64,
    pub to_runner_us: Percentiles,
    pub to_answer_us: Percentiles,
    /// What the rest of the machine used, of one core; the load does not know.
    #[serde(default)]
    pub foreign_percent: f64,
    /// Of its time the load's core did not run the load, which never sleeps; zero where it does.
    #[serde(default)]
    pub stalled_percent: f64,
}

/// A load that was stalled for more of its time was disturbed: a hundredth of the time decides a 99th percentile.
const STALLED_PERCENT_MAX: f64 = 0.5;

impl OpenLoop {
    /// How disturbed it was, in multiples of what is let pass.
    pub fn disturbance(&self, foreign_percent_max: f64) -> f64 {
        (self.foreign_percent / foreign_percent_max).max(self.stalled_percent / STALLED_PERCENT_MAX)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// A figure that came later, in what an earlier run wrote.
pub const fn one() -> u64 {
    1
}

/// Puts together what the processes saw of one load. They began together and went on for as long: each knows the
/// server's CPU time over the same window but for some milliseconds, so the mean of these is what all matches took.
pub fn together(reports: &[Report]) -> OpenLoop {
    let processes = reports.len() as u64;
    let mut counts = Counts::default();
    reports.iter().for_each(|report| counts += report.counts);
    let cpu_ns = reports.iter().map(|report| report.cpu_ns).sum::<u64>() as f64 / processes as f64;
    let sum = |figure: fn(&Report) -> f64| reports.iter().map(figure).sum::<f64>();
    let secs = sum(|report| report.counts.dispatched as f64 / report.rate);
    OpenLoop {
        processes,
        rate: reports.iter().map(|report| report.rate).sum(),
        counts,
        cpu_us_per_match: cpu_ns / 1e3 / counts.hits.max(1) as f64,
        rss_bytes: reports.iter().map(|report| report.rss_bytes).max().unwrap_or(0),
        to_runner_us: percentiles(reports.iter().map(|report| &report.to_runner)),
        to_answer_us: percentiles(reports.iter().map(|report| &report.to_answer)),
        foreign_percent: 0.0,
        stalled_percent: sum(|report| report.stalled_ns as f64) / 1e9 / secs * 100.0,
    }
}

/// Of all latencies: a mean of percentiles is no percentile.
fn percentiles<'a>(all: impl Iterator<Item = &'a Latencies>) -> Percentiles {
    let mut histogram = Histogram::<u64>::new(DIGITS).expect("digits that it can keep");
    for (nanos, times) in all.flat_map(|latencies| &latencies.0) {
        histogram.record_n(*nanos, *times).expect("it grows with its values");
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: histogram.max() as f64 / 1e3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hits: u64, cpu_ns: u64, latencies: &[(u64, u64)]) -> Report {
        let latencies = Latencies(latencies.to_vec());
        Report {
            rate: 10.0,
            counts: Counts { runners: 5, keys: 2, dispatched: hits, hits, ..Counts::default() },
            cpu_ns,
            stalled_ns: 10_000_000 * hits,
            rss_bytes: 1,
            to_runner: latencies.clone(),
            to_answer: latencies,
        }
    }

    #[test]
    fn what_two_saw_is_one_load() {
        let whole = together(&[report(99, 900_000, &[(1_000, 99)]), report(1, 1_100_000, &[(500_000, 1)])]);
        assert_eq!((whole.processes, whole.rate, whole.counts.runners, whole.counts.keys), (2, 20.0, 10, 4));
        assert_eq!(whole.cpu_us_per_match, 10.0, "either saw what all matches cost");
        assert_eq!(whole.stalled_percent, 10.0, "of a tenth of a second for each dispatch");
        assert_eq!(whole.disturbance(3.0), 20.0);
        // The slow one's only latency is one of a hundred, not half of a mean.
        assert!(whole.to_runner_us.p99 < 1.01, "{:?}", whole.to_runner_us);
        assert!(whole.to_runner_us.max >= 500.0, "{:?}", whole.to_runner_us);
    }

    #[test]
    fn latencies_survive_being_told() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, DIGITS).unwrap();
        (1..=1_000).for_each(|us| histogram.record(us * 1_000).unwrap());
        let told = serde_json::to_string(&Latencies::from(&histogram)).unwrap();
        let found = percentiles([serde_json::from_str(&told).unwrap()].iter());
        assert_eq!(found.p50, histogram.value_at_quantile(0.5) as f64 / 1e3);
        assert_eq!(found.max, histogram.max() as f64 / 1e3);
    }
}
