//! Explains how the broker would answer a run now: compares the run with the pools of all workers.

use super::snapshot::Snapshot;
use crate::api::{ExplainQuery, Explanation, Pool};
use crate::broker::event::ColdReason;
use crate::broker::report::Selector;
use std::cmp::Reverse;

/// Pools in an answer.
const POOLS_MAX: usize = 100;

/// How the broker would answer a run with the key in `asked`.
pub fn explain(snapshot: &Snapshot, shutting_down: bool, asked: ExplainQuery) -> Explanation {
    let (mut pools, others): (Vec<Pool>, Vec<Pool>) =
        snapshot.pools().into_iter().partition(|pool| pool.deployment == asked.deployment);
    pools.sort_by_key(|pool| (pool.waiting == 0, distance(&asked, pool), Reverse(pool.waiting)));
    let other_deployments_waiting = waiting_deployments(&others);
    let case = Case {
        pools: &pools,
        asked: &asked,
        shutting_down,
        deployment_cordoned: snapshot
            .cordons_in_force()
            .contains(&Selector::Deployment(asked.deployment.clone())),
        other_deployments_waiting,
    };
    let ready = case.fitting().map(ready).sum();
    let (reason, advice) = case.decide();
    let keys_total = pools.len();
    pools.truncate(POOLS_MAX);
    Explanation {
        outcome: if reason.is_none() { "warm" } else { "cold" }.to_owned(),
        reason: reason.map(|reason| reason.name().to_owned()),
        advice,
        ready,
        keys: pools,
        keys_total,
        cordons: snapshot.cordons(),
        other_deployments_waiting,
        stalled_workers: snapshot.stalled(),
        asked,
    }
}

/// The runners whose key is closest to the run's, in a few words; `None` if its deployment has none.
pub fn closest(pools: &[Pool], asked: &ExplainQuery) -> Option<String> {
    let near = pools.iter().filter(|pool| pool.deployment == asked.deployment && ready(pool) > 0);
    let pool = near.min_by_key(|pool| distance(asked, pool))?;
    Some(match distance(asked, pool) {
        0 => format!("{} waiting now", pool.waiting),
        1 => format!("{} waiting with {} vCPU, {} GB", pool.waiting, pool.cpu, pool.memory),
        _ => format!("{} waiting with version {}", pool.waiting, pool.version),
    })
}

/// The facts that decide the outcome of a run.
struct Case<'a> {
    /// The pools of its deployment, closest first.
    pools: &'a [Pool],
    asked: &'a ExplainQuery,
    shutting_down: bool,
    deployment_cordoned: bool,
    other_deployments_waiting: usize,
}

impl Case<'_> {
    /// The reason, or `None` if a run would be warm, and the advice. In the order in which a worker decides.
    fn decide(&self) -> (Option<ColdReason>, String) {
        let fitting = |count: fn(&Pool) -> u64| self.fitting().map(count).sum::<u64>();
        let (reason, advice) = if self.shutting_down {
            (ColdReason::ShuttingDown, SHUTTING_DOWN.to_owned())
        } else if self.deployment_cordoned {
            (ColdReason::Cordoned, deployment_cordoned(&self.asked.deployment))
        } else if fitting(ready) > 0 {
            return (None, WARM.to_owned());
        } else if fitting(|pool| pool.cordoned) > 0 {
            (ColdReason::Cordoned, NODE_CORDONED.to_owned())
        } else if fitting(|pool| pool.waiting - pool.claimed) > 0 {
            (ColdReason::Parked, PARKED.to_owned())
        } else if fitting(|pool| pool.claimed) > 0 {
            (ColdReason::NoRunner, ALL_CLAIMED.to_owned())
        } else if let Some(pool) = self.unfitting(|pool| version_fits(self.asked, pool)) {
            (ColdReason::OtherMachineSize, other_machine_size(pool))
        } else if let Some(pool) = self.unfitting(|_| true) {
            (ColdReason::OtherVersion, other_version(pool))
        } else if self.other_deployments_waiting == 0 {
            (ColdReason::NoRunner, NO_RUNNER_AT_ALL.to_owned())
        } else {
            (ColdReason::NoRunner, no_runner_of_deployment(self.other_deployments_waiting))
        };
        (Some(reason), advice)
    }

    /// The pools of the run's key.
    fn fitting(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(|pool| distance(self.asked, pool) == 0)
    }

    /// The closest pool of another key that has unclaimed polls.
    fn unfitting(&self, also: impl Fn(&Pool) -> bool) -> Option<&Pool> {
        let unclaimed = |pool: &&Pool| pool.waiting > pool.claimed;
        self.pools.iter().filter(unclaimed).find(|pool| distance(self.asked, pool) > 0 && also(pool))
    }
}

const WARM: &str = "A run that is dispatched now is offered to one of these runners. If runs are cold anyway, compare their version and machine size with the runners', and check that the supervisor's TRIGGER_WARM_START_URL (or TRIGGER_WARM_START_DISPATCH_URL) is the address of this broker.";
const SHUTTING_DOWN: &str =
    "The broker is shutting down and answers every dispatch false. Send runs to its successor.";
const NODE_CORDONED: &str = "Runners are waiting, on cordoned nodes. `pilotlight cordon` lists the cordons, `pilotlight uncordon --node NAME` ends one.";
const PARKED: &str = "Runners are waiting, but all are too close to their timeout to be offered a run (--guard). Each polls again within seconds. If this is frequent, raise --connection-timeout.";
const ALL_CLAIMED: &str =
    "A run is being delivered to every waiting runner: there are more runs than runners.";
const NO_RUNNER_AT_ALL: &str = "No runner is waiting at this broker. Runners poll after their first (cold) run. Check that the supervisor sets TRIGGER_WARM_START_URL, and that a runner's container can reach that address.";

fn deployment_cordoned(deployment: &str) -> String {
    format!(
        "This deployment is cordoned. `pilotlight uncordon --deployment {deployment}` removes the cordon."
    )
}

fn other_machine_size(pool: &Pool) -> String {
    format!(
        "Runners of this version are waiting with another machine size: {} vCPU, {} GB. A run goes to its exact machine size only. Give the task the machine preset of these runners, or wait until runners of the right size have finished a run.",
        pool.cpu, pool.memory
    )
}

fn other_version(pool: &Pool) -> String {
    format!(
        "Runners are waiting for version {:?} only. After a deploy the new version's first runs are cold, and old runners exit after --keepalive. Runs that are locked to an old version need runners of that version.",
        pool.version
    )
}

fn no_runner_of_deployment(others: usize) -> String {
    let others =
        if others == 1 { "another deployment".to_owned() } else { format!("{others} other deployments") };
    format!(
        "No runner of this deployment is waiting, but runners of {others} are, so runners can reach this broker. Either this deployment's runners have exited (--keepalive), or all are executing runs, or the name is not the deployment's friendly id."
    )
}

/// Runners that could be offered a run.
fn ready(pool: &Pool) -> u64 {
    pool.waiting.saturating_sub(pool.claimed + pool.parked + pool.cordoned)
}

/// How far a pool's key is from the run's, 0 if equal. Another machine size is closer than another version.
fn distance(asked: &ExplainQuery, pool: &Pool) -> u8 {
    let size_fits = asked.cpu.is_none_or(|cpu| cpu == pool.cpu)
        && asked.memory.is_none_or(|memory| memory == pool.memory);
    u8::from(!size_fits) + 2 * u8::from(!version_fits(asked, pool))
}

fn version_fits(asked: &ExplainQuery, pool: &Pool) -> bool {
    asked.version.as_ref().is_none_or(|version| *version == pool.version)
}

/// The number of deployments with waiting runners.
fn waiting_deployments(pools: &[Pool]) -> usize {
    let waiting = pools.iter().filter(|pool| pool.waiting > 0);
    let mut names: Vec<&str> = waiting.map(|pool| &*pool.deployment).collect();
    // The pools are sorted by deployment.
    names.dedup();
    names.len()
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::WorkerState;
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

    fn asked() -> ExplainQuery {
        ExplainQuery {
            deployment: "deployment_a".to_owned(),
            version: Some("2".to_owned()),
            cpu: Some(0.5),
            memory: Some(1.0),
        }
    }

    #[test]
    fn every_reason_has_its_advice_and_the_closest_pool_comes_first() {
        let other = |waiting| KeyReport { deployment: "deployment_b".to_owned(), ..row("2", 0.5, waiting) };
        let cordon = || vec![Selector::Deployment("deployment_a".to_owned())];
        for (keys, cordons, shutting_down, reason, in_advice) in [
            (vec![row("2", 0.5, 1)], vec![], false, None, "compare"),
            (vec![row("2", 0.5, 1)], vec![], true, Some("shutting_down"), "successor"),
            (vec![row("2", 0.5, 1)], cordon(), false, Some("cordoned"), "uncordon --deployment deployment_a"),
            (vec![KeyReport { cordoned: 1, ..row("2", 0.5, 1) }], vec![], false, Some("cordoned"), "--node"),
            (vec![KeyReport { parked: 2, ..row("2", 0.5, 2) }], vec![], false, Some("parked"), "--guard"),
            (
                vec![row("1", 0.5, 9), row("2", 4.0, 1)],
                vec![],
                false,
                Some("other_machine_size"),
                "4 vCPU, 1 GB",
            ),
            (vec![row("1", 0.5, 9), row("2", 0.5, 0)], vec![], false, Some("other_version"), "\"1\""),
            (vec![row("2", 0.5, 0), other(3)], vec![], false, Some("no_runner"), "another deployment are"),
            (
                vec![KeyReport { claimed: 1, ..row("2", 0.5, 1) }],
                vec![],
                false,
                Some("no_runner"),
                "being delivered",
            ),
            (vec![], vec![], false, Some("no_runner"), "at this broker"),
        ] {
            let explanation = explain(&snapshot(keys, cordons), shutting_down, asked());
            let outcome = if reason.is_some() { "cold" } else { "warm" };
            assert_eq!((&*explanation.outcome, explanation.reason.as_deref()), (outcome, reason));
            assert!(explanation.advice.contains(in_advice), "{explanation:?}");
        }
        let keys = vec![row("1", 0.5, 9), row("2", 4.0, 1)];
        let explanation = explain(&snapshot(keys, vec![]), false, asked());
        assert_eq!(explanation.keys[0].cpu, 4.0);
        let pools = snapshot(vec![row("1", 0.5, 9)], vec![]).pools();
        assert_eq!(closest(&pools, &asked()).as_deref(), Some("9 waiting with version 1"));
    }
}
