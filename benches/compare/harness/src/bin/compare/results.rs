//! The results of a run, as stored in the file of raw figures.

use std::collections::BTreeMap;

use harness::report::{OpenLoop, median, one};
use serde::{Deserialize, Serialize};

use crate::load::{Aborted, Dispatched};
use crate::machine::Machine;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub quick: bool,
    pub minutes: f64,
    pub foreign_percent_max: f64,
    /// The open loop ran at real-time priority.
    #[serde(default)]
    pub realtime: bool,
    /// The servers in the order of the table.
    pub servers: Vec<Described>,
    pub windows: BTreeMap<String, Vec<Window>>,
    pub syscalls: BTreeMap<String, Syscalls>,
    pub memory: BTreeMap<String, Vec<Resident>>,
    pub aborts: BTreeMap<String, Aborts>,
    pub latency: BTreeMap<String, Vec<Latency>>,
    /// Pilotlight at half of its capacity, and the floors at the same rate.
    #[serde(default)]
    pub pairs: BTreeMap<String, Vec<Pair>>,
    pub keys: BTreeMap<String, Keys>,
    pub workers: Option<Workers>,
    pub scale: Vec<OpenLoop>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Described {
    pub name: String,
    pub what: String,
    pub binary_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    pub cpu_us_per_match: f64,
    pub dispatched: Dispatched,
    pub listening_ms: f64,
    /// The share of one core that other processes used.
    pub foreign_percent: f64,
}

impl Window {
    /// How disturbed the window was, in multiples of the limit.
    pub fn disturbance(&self, foreign_percent_max: f64) -> f64 {
        self.foreign_percent / foreign_percent_max
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Syscalls {
    pub per_match: f64,
    /// The most frequent system calls, per match.
    pub by_name: Vec<(String, f64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resident {
    #[serde(default = "one")]
    pub workers: u64,
    pub held: u64,
    pub rss_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aborts {
    pub done: Aborted,
    pub rss_before_bytes: u64,
    pub rss_after_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The rate as a percentage of the capacity in the closed loop.
    pub percent: u32,
    pub report: OpenLoop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    pub floor_name: String,
    pub ours: OpenLoop,
    pub floor: OpenLoop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    pub one: Vec<OpenLoop>,
    pub many: Vec<OpenLoop>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workers {
    pub one: Vec<OpenLoop>,
    pub together: Vec<OpenLoop>,
    pub apart: Vec<OpenLoop>,
}

/// The server's CPU time per match: the median of several runs of the same load.
pub fn cpu_us_per_match(reports: &[OpenLoop]) -> Option<f64> {
    median(reports.iter().map(|report| report.cpu_us_per_match))
}

impl Results {
    pub fn window_median(&self, server: &str, of: impl Fn(&Window) -> f64) -> Option<f64> {
        median(self.windows.get(server)?.iter().map(of))
    }

    pub fn cpu_us(&self, server: &str) -> Option<f64> {
        self.window_median(server, |window| window.cpu_us_per_match)
    }

    pub fn warm_per_second(&self, server: &str) -> Option<f64> {
        self.window_median(server, |w| w.dispatched.warm as f64 * 1e6 / w.dispatched.duration_us as f64)
    }

    /// The p99 of the typical thousand without stalls if known, otherwise of all.
    pub fn p99_to_runner_us(&self, server: &str, percent: u32) -> Option<f64> {
        let rows = self.latency.get(server)?.iter().filter(|row| row.percent == percent);
        median(rows.map(|row| row.report.typical_p99_to_runner_us()))
    }

    /// That p99 divided by the floor's at the same rate.
    pub fn p99_over_floor(&self, server: &str) -> Option<f64> {
        let pairs = self.pairs.get(server)?;
        let p99 =
            |of: fn(&Pair) -> &OpenLoop| median(pairs.iter().map(|pair| of(pair).typical_p99_to_runner_us()));
        Some(p99(|pair| &pair.ours)? / p99(|pair| &pair.floor)?)
    }

    /// Whether every open loop leaves out the dispatches that stalls delayed.
    pub fn is_calm(&self) -> bool {
        let pairs = self.pairs.values().flatten().flat_map(|pair| [&pair.ours, &pair.floor]);
        let mut reports = self.latency.values().flatten().map(|row| &row.report).chain(pairs);
        reports.all(|report| report.calm.is_some())
    }

    /// User memory per poll at the largest number held, minus that of the same broker without polls.
    pub fn bytes_per_held(&self, server: &str) -> Option<f64> {
        let rows = self.memory.get(server)?;
        let most = rows.last()?;
        let start = rows.iter().find(|row| row.workers == most.workers)?;
        let polls = most.held.checked_sub(start.held).filter(|&polls| polls > 0)?;
        Some((most.rss_bytes as f64 - start.rss_bytes as f64) / polls as f64)
    }
}
