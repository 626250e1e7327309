//! The figures of an open loop: those of each process of the load, and their combination.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// The counts of one process of the load, or of all.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub runners: u64,
    pub keys: u64,
    pub dispatched: u64,
    #[serde(rename = "hits")]
    pub warm: u64,
    #[serde(rename = "misses")]
    pub cold: u64,
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
            warm,
            cold,
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
        self.warm += warm;
        self.cold += cold;
        self.failed += failed;
        self.true_but_not_delivered += true_but_not_delivered;
        self.delivered_but_not_true += delivered_but_not_true;
        self.delivered_twice += delivered_twice;
        self.renewed += renewed;
        self.refused += refused;
    }
}

/// The figures of one process of the load, to be combined with those of others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub rate: f64,
    #[serde(flatten)]
    pub counts: Counts,
    /// CPU time of the server, for the matches of all processes of the load.
    pub cpu_ns: u64,
    /// How long the load was stalled, if it never sleeps. A hypervisor need not report that it took the core.
    #[serde(default)]
    pub stalled_ns: u64,
    pub rss_bytes: u64,
    pub to_runner: Latencies,
    pub to_answer: Latencies,
    /// Present if the server's core was watched.
    #[serde(default)]
    pub calm: Option<Calm>,
}

/// The figures without the dispatches that a stall delayed; see `stalls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calm {
    pub left_out: u64,
    /// How long the server's core was stalled.
    pub server_stalled_ns: u64,
    /// The 99th percentile of each 1,000 successive remaining latencies.
    pub p99s_to_runner_ns: Vec<u64>,
    pub to_runner: Latencies,
    pub to_answer: Latencies,
}

/// Latencies in nanoseconds, with their counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latencies(Vec<(u64, u64)>);

impl From<&Histogram<u64>> for Latencies {
    fn from(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        Latencies(recorded.map(|row| (row.value_iterated_to(), row.count_since_last_iteration())).collect())
    }
}

impl Latencies {
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, times)| times).sum()
    }

    #[cfg(test)]
    pub fn max_ns(&self) -> u64 {
        self.0.iter().map(|(nanos, _)| *nanos).max().unwrap_or(0)
    }
}

/// The combined figures of an open loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenLoop {
    /// Processes of the load, each with its share of the polls and of the rate.
    #[serde(default = "one")]
    pub processes: u64,
    pub rate: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub cpu_us_per_match: f64,
    pub rss_bytes: u64,
    pub to_runner_us: Percentiles,
    pub to_answer_us: Percentiles,
    /// The share of one core that other processes used. The harness fills it in.
    #[serde(default)]
    pub foreign_percent: f64,
    /// The share of the time during which a load that never sleeps was stalled; zero if it sleeps.
    #[serde(default)]
    pub stalled_percent: f64,
    /// `None` if the server's core was not watched.
    #[serde(default)]
    pub calm: Option<CalmLoop>,
}

/// The figures of an open loop without the dispatches that a stall delayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CalmLoop {
    /// The share of the dispatches that is left out.
    pub left_out_percent: f64,
    /// The share of the time during which the server's core was stalled.
    pub server_stalled_percent: f64,
    /// The median of the 99th percentiles of each 1,000 successive remaining latencies.
    pub typical_p99_to_runner_us: f64,
    pub to_runner_us: Percentiles,
    pub to_answer_us: Percentiles,
}

/// A load that was stalled for a larger share was disturbed: one percent of the time decides a 99th percentile.
const STALLED_PERCENT_MAX: f64 = 0.5;
/// A load with a larger share left out was disturbed: the rest shows too little.
const LEFT_OUT_PERCENT_MAX: f64 = 20.0;

impl OpenLoop {
    /// How disturbed the load was, in multiples of the limit.
    pub fn disturbance(&self, foreign_percent_max: f64) -> f64 {
        let by_stalls = match &self.calm {
            Some(calm) => calm.left_out_percent / LEFT_OUT_PERCENT_MAX,
            None => self.stalled_percent / STALLED_PERCENT_MAX,
        };
        by_stalls.max(self.foreign_percent / foreign_percent_max)
    }

    /// The 99th percentile to compare: of the typical thousand without stalls if known, otherwise of all.
    pub fn typical_p99_to_runner_us(&self) -> f64 {
        self.calm.as_ref().map_or(self.to_runner_us.p99, |calm| calm.typical_p99_to_runner_us)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// The default of a figure that older result files do not have.
pub const fn one() -> u64 {
    1
}

/// Combines the figures of the processes of one load. They ran for the same time, within some milliseconds, and each
/// measured the server's CPU time. So the mean of these is the CPU time of all matches.
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
        cpu_us_per_match: cpu_ns / 1e3 / counts.warm.max(1) as f64,
        rss_bytes: reports.iter().map(|report| report.rss_bytes).max().unwrap_or(0),
        to_runner_us: percentiles(reports.iter().map(|report| &report.to_runner)),
        to_answer_us: percentiles(reports.iter().map(|report| &report.to_answer)),
        foreign_percent: 0.0,
        stalled_percent: sum(|report| report.stalled_ns as f64) / 1e9 / secs * 100.0,
        calm: calm(reports, counts.dispatched, secs),
    }
}

/// `None` if a process did not watch the server's core, or if nothing is left.
fn calm(reports: &[Report], dispatched: u64, secs: f64) -> Option<CalmLoop> {
    let all = reports.iter().map(|report| report.calm.as_ref()).collect::<Option<Vec<_>>>()?;
    let sum = |figure: fn(&Calm) -> u64| all.iter().map(|calm| figure(calm)).sum::<u64>() as f64;
    let p99s_to_runner_us = all.iter().flat_map(|calm| &calm.p99s_to_runner_ns).map(|ns| *ns as f64 / 1e3);
    (sum(|calm| calm.to_runner.count()) > 0.0).then(|| CalmLoop {
        left_out_percent: sum(|calm| calm.left_out) / dispatched as f64 * 100.0,
        server_stalled_percent: sum(|calm| calm.server_stalled_ns) / 1e9 / secs * 100.0,
        typical_p99_to_runner_us: median(p99s_to_runner_us).unwrap_or(0.0),
        to_runner_us: percentiles(all.iter().map(|calm| &calm.to_runner)),
        to_answer_us: percentiles(all.iter().map(|calm| &calm.to_answer)),
    })
}

/// The median. For an even number it is the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Percentiles of all latencies together: a mean of percentiles is not a percentile.
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

    fn report(warm: u64, cpu_ns: u64, latencies: &[(u64, u64)]) -> Report {
        let latencies = Latencies(latencies.to_vec());
        Report {
            rate: 10.0,
            counts: Counts { runners: 5, keys: 2, dispatched: warm, warm, ..Counts::default() },
            cpu_ns,
            stalled_ns: 10_000_000 * warm,
            rss_bytes: 1,
            to_runner: latencies.clone(),
            to_answer: latencies,
            calm: None,
        }
    }

    /// A report of a load whose server was stalled for one percent of the time.
    fn calm(report: Report, left_out: u64, latencies: &[(u64, u64)]) -> Report {
        let latencies = Latencies(latencies.to_vec());
        let calm = Calm {
            left_out,
            server_stalled_ns: report.counts.dispatched * 1_000_000,
            p99s_to_runner_ns: vec![400_000, 3_000 * report.counts.dispatched, 1_000],
            to_runner: latencies.clone(),
            to_answer: latencies,
        };
        Report { calm: Some(calm), ..report }
    }

    #[test]
    fn calm_figures_of_all_processes_are_combined() {
        let slow = report(10, 0, &[(1_000, 9), (500_000, 1)]);
        let quick = report(90, 0, &[(1_000, 90)]);
        let some = [calm(slow.clone(), 2, &[(1_000, 8)]), calm(quick.clone(), 3, &[(2_000, 87)])];
        let whole = together(&some);
        let found = whole.calm.clone().expect("both processes have calm figures");
        assert_eq!((found.left_out_percent, found.server_stalled_percent), (5.0, 1.0));
        assert!(found.to_runner_us.max < 2.01, "{found:?}");
        assert!(found.to_answer_us.p50 > 1.99, "{found:?}");
        assert!(whole.to_runner_us.max >= 500.0, "all latencies count");
        // 1, 1, 30, 270, 400 and 400 us.
        assert_eq!(found.typical_p99_to_runner_us, 150.0, "of the thousands of both");
        assert_eq!(whole.typical_p99_to_runner_us(), 150.0);
        assert_eq!(
            whole.disturbance(3.0),
            0.25,
            "a quarter of the limit; the length of the stalls does not count"
        );
        assert_eq!(OpenLoop { foreign_percent: 6.0, ..whole }.disturbance(3.0), 2.0);

        let one_knows = together(&[calm(slow.clone(), 2, &[(1_000, 8)]), quick]);
        assert!(one_knows.calm.is_none());
        assert_eq!(one_knows.typical_p99_to_runner_us(), one_knows.to_runner_us.p99);
        assert!(together(&[calm(slow, 10, &[])]).calm.is_none(), "nothing is left");
    }

    #[test]
    fn results_without_calm_figures_are_read() {
        let mut json = serde_json::to_value(report(10, 0, &[(1_000, 10)])).unwrap();
        json.as_object_mut().unwrap().remove("calm").expect("a calm part");
        let read: Report = serde_json::from_value(json).unwrap();
        assert!(read.calm.is_none());
        let mut json = serde_json::to_value(together(&[read])).unwrap();
        json.as_object_mut().unwrap().remove("calm").expect("a calm part");
        let read: OpenLoop = serde_json::from_value(json).unwrap();
        assert!(read.calm.is_none());
        assert_eq!(read.disturbance(3.0), 20.0, "by the load's stalls");
    }

    #[test]
    fn reports_of_two_processes_are_combined() {
        let whole = together(&[report(99, 900_000, &[(1_000, 99)]), report(1, 1_100_000, &[(500_000, 1)])]);
        assert_eq!((whole.processes, whole.rate, whole.counts.runners, whole.counts.keys), (2, 20.0, 10, 4));
        assert_eq!(whole.cpu_us_per_match, 10.0, "each process measured the cost of all matches");
        assert_eq!(whole.stalled_percent, 10.0, "of a tenth of a second for each dispatch");
        assert_eq!(whole.disturbance(3.0), 20.0);
        // The slow process's only latency is one of a hundred, not half of a mean.
        assert!(whole.to_runner_us.p99 < 1.01, "{:?}", whole.to_runner_us);
        assert!(whole.to_runner_us.max >= 500.0, "{:?}", whole.to_runner_us);
    }

    #[test]
    fn latencies_survive_serialization() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, DIGITS).unwrap();
        (1..=1_000).for_each(|us| histogram.record(us * 1_000).unwrap());
        let json = serde_json::to_string(&Latencies::from(&histogram)).unwrap();
        let found = percentiles([serde_json::from_str(&json).unwrap()].iter());
        assert_eq!(found.p50, histogram.value_at_quantile(0.5) as f64 / 1e3);
        assert_eq!(found.max, histogram.max() as f64 / 1e3);
    }
}
