//! `/status`: what the workers know, merged, as JSON.

use super::workers::{Snapshot, WorkerState};
use crate::broker::counters::{Counters, FAMILIES};
use crate::broker::report::KeyReport;
use crate::broker::settings::Confirm;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the page says besides the workers' numbers.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What moves the bytes.
    pub engine: &'static str,
    /// How long the workers have served.
    pub uptime: Duration,
    /// A drain of the whole process has begun.
    pub shutting_down: bool,
    /// What a delivery's proof is.
    pub confirm: Confirm,
}

/// `/status`. The order of the fields is the order on the page.
#[derive(Debug, serde::Serialize)]
pub struct Status {
    version: &'static str,
    engine: &'static str,
    waiting: u64,
    warm: u64,
    cold: u64,
    uptime_seconds: u64,
    shutting_down: bool,
    confirm: &'static str,
    workers: Vec<Worker>,
    keys: Vec<Key>,
}

#[derive(Debug, serde::Serialize)]
struct Worker {
    worker: usize,
    stalled: bool,
    connections: u64,
    waiting: u64,
    claimed: u64,
    buffered_bytes: u64,
    #[serde(flatten)]
    counters: Counted,
}

/// One key on all workers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Key {
    /// Its friendly id.
    pub deployment: String,
    /// The background worker's version.
    pub version: String,
    /// vCPUs.
    pub cpu: f64,
    /// GB.
    pub memory: f64,
    /// Held polls, all that follow included.
    pub waiting: u64,
    /// Of these: claimed by a dispatch.
    pub claimed: u64,
    /// Of these: in their last moments.
    pub parked: u64,
    /// Of these: under a cordon.
    pub cordoned: u64,
    /// Dispatches answered true.
    pub warm: u64,
    /// Dispatches answered false.
    pub cold: u64,
    /// How long the oldest poll that may be offered a run has waited.
    pub oldest_wait_ms: u64,
    workers: Vec<KeyOnWorker>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct KeyOnWorker {
    worker: usize,
    waiting: u64,
    warm: u64,
    cold: u64,
}

/// The name of a proof, as `--confirm` takes it.
pub const fn confirm_name(confirm: Confirm) -> &'static str {
    match confirm {
        Confirm::Read => "read",
        Confirm::Ack => "ack",
        Confirm::Write => "write",
    }
}

impl Status {
    /// Merges the workers' reports.
    pub fn new(about: About, snapshot: &Snapshot) -> Self {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            engine: about.engine,
            waiting: snapshot.total(|worker| worker.waiting),
            warm: snapshot.total(|worker| worker.counters.warm),
            cold: snapshot.total(|worker| worker.counters.answered_false()),
            uptime_seconds: about.uptime.as_secs(),
            shutting_down: about.shutting_down,
            confirm: confirm_name(about.confirm),
            workers: snapshot.workers.iter().map(Worker::new).collect(),
            keys: merged(snapshot),
        }
    }
}

impl Worker {
    fn new(state: &WorkerState) -> Self {
        Worker {
            worker: state.report.worker,
            stalled: state.stalled,
            connections: state.report.connections,
            waiting: state.report.waiting,
            claimed: state.report.claimed,
            buffered_bytes: state.report.buffered_bytes,
            counters: Counted(state.report.counters.clone()),
        }
    }
}

/// One row per key, by name; machines of one version by size.
pub fn merged(snapshot: &Snapshot) -> Vec<Key> {
    let mut keys: BTreeMap<(&str, &str, u64, u64), Key> = BTreeMap::new();
    for worker in &snapshot.workers {
        for row in &worker.report.keys {
            let name = (
                row.deployment.as_str(),
                row.version.as_str(),
                // Positive numbers order as their bits do.
                row.cpu.to_bits(),
                row.memory.to_bits(),
            );
            let key = keys.entry(name).or_insert_with(|| Key::new(row));
            key.waiting += row.waiting;
            key.claimed += row.claimed;
            key.parked += row.parked;
            key.cordoned += row.cordoned;
            key.warm += row.warm;
            key.cold += row.cold;
            key.oldest_wait_ms = key.oldest_wait_ms.max(row.oldest_wait_ms);
            key.workers.push(KeyOnWorker {
                worker: worker.report.worker,
                waiting: row.waiting,
                warm: row.warm,
                cold: row.cold,
            });
        }
    }
    keys.into_values().collect()
}

impl Key {
    fn new(row: &KeyReport) -> Self {
        Key {
            deployment: row.deployment.clone(),
            version: row.version.clone(),
            cpu: row.cpu,
            memory: row.memory,
            waiting: 0,
            claimed: 0,
            parked: 0,
            cordoned: 0,
            warm: 0,
            cold: 0,
            oldest_wait_ms: 0,
            workers: Vec::new(),
        }
    }
}

/// Every counter under its own name, `warm` and `cold` first.
#[derive(Debug)]
struct Counted(Counters);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("warm", &self.0.warm)?;
        map.serialize_entry("cold", &self.0.cold())?;
        for member in FAMILIES.iter().flat_map(|family| family.members) {
            if let Some(name) = member.field.filter(|name| *name != "warm") {
                map.serialize_entry(name, &(member.of)(&self.0))?;
            }
        }
        map.serialize_entry("refused", &self.0.refused())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use super::*;
    use serde_json::json;

    fn status() -> (serde_json::Value, String) {
        let state = |worker, stalled| WorkerState { report: report(worker, true), stalled };
        let snapshot = Snapshot { workers: vec![state(0, false), state(1, true)], with_keys: true };
        let about = About {
            engine: "epoll",
            uptime: Duration::from_millis(61_900),
            shutting_down: false,
            confirm: Confirm::Read,
        };
        let text = serde_json::to_string(&Status::new(about, &snapshot)).unwrap();
        (serde_json::from_str(&text).unwrap(), text)
    }

    #[test]
    fn the_top_level_has_the_agreed_fields_in_the_agreed_order() {
        let (status, text) = status();
        assert!(
            text.starts_with(&format!(
                r#"{{"version":"{}","engine":"epoll","waiting":21,"warm":201,"cold":100,"uptime_seconds":61,"shutting_down":false,"confirm":"read","workers":[{{"worker":0,"stalled":false,"connections":30,"waiting":10,"claimed":0,"buffered_bytes":0,"warm":100,"cold":50,"#,
                env!("CARGO_PKG_VERSION")
            )),
            "{text}"
        );
        assert_eq!(status.as_object().unwrap().len(), 10);
        assert_eq!(status["workers"][1]["stalled"], json!(true));
        assert_eq!(status["workers"][1]["unconfirmed"], json!(5));
    }

    #[test]
    fn keys_are_merged_over_the_cores_and_sorted() {
        let (status, _) = status();
        assert_eq!(
            status["keys"],
            json!([
                {
                    "deployment": "deployment_a", "version": "20260101.1", "cpu": 0.5, "memory": 0.25,
                    "waiting": 6, "claimed": 0, "parked": 1, "cordoned": 0,
                    "warm": 3, "cold": 1, "oldest_wait_ms": 1_000,
                    "workers": [{"worker": 0, "waiting": 6, "warm": 3, "cold": 1}],
                },
                {
                    "deployment": "deployment_a", "version": "20260101.1", "cpu": 0.5, "memory": 0.5,
                    "waiting": 7, "claimed": 0, "parked": 1, "cordoned": 0,
                    "warm": 4, "cold": 1, "oldest_wait_ms": 1_000,
                    "workers": [{"worker": 1, "waiting": 7, "warm": 4, "cold": 1}],
                },
                {
                    "deployment": "deployment_b", "version": "20260101.1", "cpu": 0.5, "memory": 1.0,
                    "waiting": 8, "claimed": 0, "parked": 2, "cordoned": 0,
                    "warm": 7, "cold": 2, "oldest_wait_ms": 2_001,
                    "workers": [
                        {"worker": 0, "waiting": 4, "warm": 3, "cold": 1},
                        {"worker": 1, "waiting": 4, "warm": 4, "cold": 1},
                    ],
                },
            ])
        );
    }
}
