//! Why would a run be cold now? What all workers hold for a deployment, held against what is asked for.

use super::cordon::{self, Target};
use super::status::{Key, merged};
use super::workers::Snapshot;
use crate::broker::report::Selector;

/// Rows of an answer.
const ROWS_MAX: usize = 100;

/// What is asked for. What is left out may be anything.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its friendly id.
    pub deployment: String,
    /// The background worker's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// vCPUs of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// GB of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    /// What was asked for.
    pub asked: Asked,
    /// `warm`, or the reason of a miss as `/metrics` names it.
    pub verdict: String,
    /// What that means and what to do, in a sentence or two.
    pub advice: String,
    /// Runners that could be offered such a run now.
    pub ready: u64,
    /// The deployment's keys, those that come closest first.
    pub keys: Vec<Key>,
    /// Keys of the deployment in all.
    pub keys_total: usize,
    /// What keeps runs away, of the deployment and of nodes.
    pub cordons: Vec<Target>,
    /// Other deployments that have runners waiting.
    pub other_deployments_waiting: usize,
    /// Workers that did not answer: what they hold is not in here.
    pub stalled_workers: Vec<usize>,
}

impl Asked {
    fn version_fits(&self, key: &Key) -> bool {
        self.version.as_ref().is_none_or(|version| *version == key.version)
    }

    fn machine_fits(&self, key: &Key) -> bool {
        self.cpu.is_none_or(|cpu| cpu == key.cpu) && self.memory.is_none_or(|memory| memory == key.memory)
    }

    /// 0 for the key itself; what is waited for with another machine is closer than another version.
    fn distance(&self, key: &Key) -> u8 {
        u8::from(!self.machine_fits(key)) + 2 * u8::from(!self.version_fits(key))
    }
}

fn ready(key: &Key) -> u64 {
    key.waiting.saturating_sub(key.claimed + key.parked + key.cordoned)
}

/// Finds out.
pub fn explain(snapshot: &Snapshot, shutting_down: bool, asked: Asked) -> Explanation {
    let (mut keys, others): (Vec<Key>, Vec<Key>) =
        merged(snapshot).into_iter().partition(|key| key.deployment == asked.deployment);
    let mut others: Vec<&str> =
        others.iter().filter(|key| key.waiting > 0).map(|key| key.deployment.as_str()).collect();
    others.sort_unstable();
    others.dedup();
    keys.sort_by_key(|key| (key.waiting == 0, asked.distance(key), std::cmp::Reverse(key.waiting)));
    let fitting = || keys.iter().filter(|key| asked.distance(key) == 0);
    let ready_now: u64 = fitting().map(ready).sum();
    let cordoned_deployment =
        cordon::in_force(snapshot).contains(&Selector::Deployment(asked.deployment.clone()));
    let held: u64 = fitting().map(|key| key.waiting - key.claimed).sum();
    let waits = |fits: &dyn Fn(&Key) -> bool| {
        keys.iter().find(|key| key.waiting > key.claimed && asked.distance(key) > 0 && fits(key))
    };
    let (verdict, advice) = if shutting_down {
        (
            "shutting_down",
            "The broker is on its way out and answers every dispatch false: send runs to its successor."
                .to_owned(),
        )
    } else if cordoned_deployment {
        (
            "cordoned",
            format!(
                "Runs are kept away from this deployment: `pilotlight drain --deployment {} --lift` ends that.",
                asked.deployment
            ),
        )
    } else if ready_now > 0 {
        ("warm", "A run that is dispatched now is offered to one of them. If runs are cold all the same, compare their version and machine with these, and see whether the supervisor's TRIGGER_WARM_START_URL (or TRIGGER_WARM_START_DISPATCH_URL) leads here.".to_owned())
    } else if fitting().any(|key| key.cordoned > 0) {
        ("cordoned", "Runners wait, on nodes that runs are kept away from: `pilotlight drain` lists these, `pilotlight drain --node NAME --lift` ends it.".to_owned())
    } else if held > 0 {
        ("parked", "Runners wait, all in the last moments of their poll (--guard); each polls again in a moment. If this is frequent, raise --connection-timeout.".to_owned())
    } else if fitting().any(|key| key.claimed > 0) {
        (
            "no_runner",
            "Every runner that waited for this is being handed a run right now: more runs than runners."
                .to_owned(),
        )
    } else if let Some(key) = waits(&|key| asked.version_fits(key)) {
        (
            "other_machine_size",
            format!(
                "Runners of this version wait on another machine: {} vCPU, {} GB. A run goes to its exact machine only: give the task the machine preset that is warm, or let runners of this one finish a run first.",
                key.cpu, key.memory
            ),
        )
    } else if let Some(key) = waits(&|_| true) {
        (
            "other_version",
            format!(
                "Runners wait for version {:?} only. After a deploy the new version's first runs are cold; old runners exit by themselves after --keepalive. Runs that are locked to an old version need runners of that version.",
                key.version
            ),
        )
    } else if others.is_empty() {
        ("no_runner", "No runner waits here at all. Runners poll after their first (cold) run: is TRIGGER_WARM_START_URL set in the supervisor, and can a runner's container reach that address?".to_owned())
    } else {
        (
            "no_runner",
            format!(
                "No runner of this deployment waits, but runners of {} others do, so runners reach this broker. This one's have all exited (--keepalive), are at work, or the name is not the deployment's friendly id.",
                others.len()
            ),
        )
    };
    let keys_total = keys.len();
    let other_deployments_waiting = others.len();
    keys.truncate(ROWS_MAX);
    Explanation {
        verdict: verdict.to_owned(),
        advice,
        ready: ready_now,
        keys,
        keys_total,
        cordons: cordon::in_force(snapshot).into_iter().map(Target::from).collect(),
        other_deployments_waiting,
        stalled_workers: snapshot.stalled(),
        asked,
    }
}

/// What came closest to a run that missed, in a few words; `None` if nothing is near.
pub fn closest(keys: &[Key], asked: &Asked) -> Option<String> {
    let near = keys.iter().filter(|key| key.deployment == asked.deployment && ready(key) > 0);
    let key = near.min_by_key(|key| asked.distance(key))?;
    Some(match asked.distance(key) {
        0 => format!("{} wait now", key.waiting),
        1 => format!("{} wait with {} vCPU, {} GB", key.waiting, key.cpu, key.memory),
        _ => format!("{} wait for version {}", key.waiting, key.version),
    })
}

#[cfg(test)]
mod tests {
    use super::super::workers::WorkerState;
    use super::*;
    use crate::broker::report::{KeyReport, WorkerReport};

    fn row(version: &str, cpu: f64, waiting: u64) -> KeyReport {
        KeyReport {
            deployment: "deployment_a".to_owned(),
            version: version.to_owned(),
            cpu,
            memory: 1.0,
            waiting,
            ..KeyReport::default()
        }
    }

    fn snapshot(keys: Vec<KeyReport>, cordons: Vec<Selector>) -> Snapshot {
        let report = WorkerReport { keys, cordons, ..WorkerReport::default() };
        Snapshot { workers: vec![WorkerState { report, stalled: false }], with_keys: true }
    }

    fn asked() -> Asked {
        Asked {
            deployment: "deployment_a".to_owned(),
            version: Some("2".to_owned()),
            cpu: Some(0.5),
            memory: Some(1.0),
        }
    }

    #[test]
    fn every_reason_has_its_verdict_and_what_came_closest_comes_first() {
        let other = |waiting| KeyReport { deployment: "deployment_b".to_owned(), ..row("2", 0.5, waiting) };
        let cordon = || vec![Selector::Deployment("deployment_a".to_owned())];
        for (keys, cordons, shutting_down, verdict, in_advice) in [
            (vec![row("2", 0.5, 1)], vec![], false, "warm", "compare"),
            (vec![row("2", 0.5, 1)], vec![], true, "shutting_down", "successor"),
            (vec![row("2", 0.5, 1)], cordon(), false, "cordoned", "--deployment deployment_a --lift"),
            (vec![KeyReport { cordoned: 1, ..row("2", 0.5, 1) }], vec![], false, "cordoned", "--node"),
            (vec![KeyReport { parked: 2, ..row("2", 0.5, 2) }], vec![], false, "parked", "--guard"),
            (vec![row("1", 0.5, 9), row("2", 4.0, 1)], vec![], false, "other_machine_size", "4 vCPU, 1 GB"),
            (vec![row("1", 0.5, 9), row("2", 0.5, 0)], vec![], false, "other_version", "\"1\""),
            (vec![row("2", 0.5, 0), other(3)], vec![], false, "no_runner", "1 others"),
            (vec![KeyReport { claimed: 1, ..row("2", 0.5, 1) }], vec![], false, "no_runner", "handed"),
            (vec![], vec![], false, "no_runner", "at all"),
        ] {
            let explanation = explain(&snapshot(keys, cordons), shutting_down, asked());
            assert_eq!(explanation.verdict, verdict, "{explanation:?}");
            assert!(explanation.advice.contains(in_advice), "{explanation:?}");
        }
        let keys = vec![row("1", 0.5, 9), row("2", 4.0, 1)];
        let explanation = explain(&snapshot(keys, vec![]), false, asked());
        assert_eq!(explanation.keys[0].cpu, 4.0);
        let keys = merged(&snapshot(vec![row("1", 0.5, 9)], vec![]));
        assert_eq!(closest(&keys, &asked()).as_deref(), Some("9 wait for version 1"));
    }
}
