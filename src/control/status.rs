//! `/status`: what the workers know, merged, as JSON.

use super::cores::{CoreState, Snapshot};
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
    pub draining: bool,
    /// What a delivery's proof is.
    pub confirm: Confirm,
}

/// `/status`. The order of the fields is the order on the page.
#[derive(Debug, serde::Serialize)]
pub struct Status {
    version: &'static str,
    engine: &'static str,
    waiting: u64,
    hits: u64,
    misses: u64,
    uptime_seconds: u64,
    draining: bool,
    confirm: &'static str,
    cores: Vec<Core>,
    keys: Vec<Key>,
}

#[derive(Debug, serde::Serialize)]
struct Core {
    core: usize,
    stalled: bool,
    connections: u64,
    waiting: u64,
    claimed: u64,
    buffered_bytes: u64,
    #[serde(flatten)]
    counters: Counted,
}

/// One key on all cores.
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
    pub ending: u64,
    /// Of these: under a cordon.
    pub cordoned: u64,
    /// Dispatches answered true.
    pub hits: u64,
    /// Dispatches answered false.
    pub misses: u64,
    /// How long the oldest poll that may be offered a run has waited.
    pub oldest_wait_ms: u64,
    cores: Vec<KeyOnCore>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct KeyOnCore {
    core: usize,
    waiting: u64,
    hits: u64,
    misses: u64,
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
            waiting: snapshot.total(|core| core.waiting),
            hits: snapshot.total(|core| core.counters.hits),
            misses: snapshot.total(|core| core.counters.misses()),
            uptime_seconds: about.uptime.as_secs(),
            draining: about.draining,
            confirm: confirm_name(about.confirm),
            cores: snapshot.cores.iter().map(Core::new).collect(),
            keys: merged(snapshot),
        }
    }
}

impl Core {
    fn new(state: &CoreState) -> Self {
        Core {
            core: state.report.core,
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
    for core in &snapshot.cores {
        for row in &core.report.keys {
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
            key.ending += row.ending;
            key.cordoned += row.cordoned;
            key.hits += row.hits;
            key.misses += row.misses;
            key.oldest_wait_ms = key.oldest_wait_ms.max(row.oldest_wait_ms);
            key.cores.push(KeyOnCore {
                core: core.report.core,
                waiting: row.waiting,
                hits: row.hits,
                misses: row.misses,
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
            ending: 0,
            cordoned: 0,
            hits: 0,
            misses: 0,
            oldest_wait_ms: 0,
            cores: Vec::new(),
        }
    }
}

/// Every counter under its own name, `hits` and `misses` first.
#[derive(Debug)]
struct Counted(Counters);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hits", &self.0.hits)?;
        map.serialize_entry("misses", &self.0.misses())?;
        for member in FAMILIES.iter().flat_map(|family| family.members) {
            if let Some(name) = member.field.filter(|name| *name != "hits") {
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
        let state = |core, stalled| CoreState { report: report(core, true), stalled };
        let snapshot = Snapshot { cores: vec![state(0, false), state(1, true)], with_keys: true };
        let about = About {
            engine: "epoll",
            uptime: Duration::from_millis(61_900),
            draining: false,
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
                r#"{{"version":"{}","engine":"epoll","waiting":21,"hits":201,"misses":100,"uptime_seconds":61,"draining":false,"confirm":"read","cores":[{{"core":0,"stalled":false,"connections":30,"waiting":10,"claimed":0,"buffered_bytes":0,"hits":100,"misses":50,"#,
                env!("CARGO_PKG_VERSION")
            )),
            "{text}"
        );
        assert_eq!(status.as_object().unwrap().len(), 10);
        assert_eq!(status["cores"][1]["stalled"], json!(true));
        assert_eq!(status["cores"][1]["misses_unconfirmed"], json!(5));
    }

    #[test]
    fn keys_are_merged_over_the_cores_and_sorted() {
        let (status, _) = status();
        assert_eq!(
            status["keys"],
            json!([
                {
                    "deployment": "deployment_a", "version": "20260101.1", "cpu": 0.5, "memory": 0.25,
                    "waiting": 6, "claimed": 0, "ending": 1, "cordoned": 0,
                    "hits": 3, "misses": 1, "oldest_wait_ms": 1_000,
                    "cores": [{"core": 0, "waiting": 6, "hits": 3, "misses": 1}],
                },
                {
                    "deployment": "deployment_a", "version": "20260101.1", "cpu": 0.5, "memory": 0.5,
                    "waiting": 7, "claimed": 0, "ending": 1, "cordoned": 0,
                    "hits": 4, "misses": 1, "oldest_wait_ms": 1_000,
                    "cores": [{"core": 1, "waiting": 7, "hits": 4, "misses": 1}],
                },
                {
                    "deployment": "deployment_b", "version": "20260101.1", "cpu": 0.5, "memory": 1.0,
                    "waiting": 8, "claimed": 0, "ending": 2, "cordoned": 0,
                    "hits": 7, "misses": 2, "oldest_wait_ms": 2_001,
                    "cores": [
                        {"core": 0, "waiting": 4, "hits": 3, "misses": 1},
                        {"core": 1, "waiting": 4, "hits": 4, "misses": 1},
                    ],
                },
            ])
        );
    }
}
