//! The workers' rows per key, merged into pools.

use super::snapshot::WorkerState;
use crate::api::{Pool, PoolOnWorker};
use crate::broker::report::KeyReport;
use std::collections::BTreeMap;

/// One pool per key. Sorted by deployment, version and machine size.
pub fn merge(workers: &[WorkerState]) -> Vec<Pool> {
    let mut pools: BTreeMap<(&str, &str, u64, u64), Pool> = BTreeMap::new();
    for worker in workers {
        for row in &worker.report.keys {
            // For positive floats, the order of the bits is the order of the numbers.
            let key = (&*row.deployment, &*row.version, row.cpu.to_bits(), row.memory.to_bits());
            let pool = pools.entry(key).or_insert_with(|| empty(row));
            add(pool, worker.report.worker, row);
        }
    }
    pools.into_values().collect()
}

fn empty(row: &KeyReport) -> Pool {
    Pool {
        deployment: row.deployment.clone(),
        version: row.version.clone(),
        cpu: row.cpu,
        memory: row.memory,
        ..Pool::default()
    }
}

fn add(pool: &mut Pool, worker: usize, row: &KeyReport) {
    let part = PoolOnWorker {
        worker,
        waiting: row.waiting,
        warm: row.warm,
        cold: row.cold,
        unconfirmed: row.unconfirmed,
    };
    pool.waiting += part.waiting;
    pool.claimed += row.claimed;
    pool.parked += row.parked;
    pool.cordoned += row.cordoned;
    pool.warm += part.warm;
    pool.cold += part.cold;
    pool.unconfirmed += part.unconfirmed;
    pool.oldest_wait_ms = pool.oldest_wait_ms.max(row.oldest_wait_ms);
    pool.workers.push(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake_workers::report;

    #[test]
    fn pools_are_merged_over_the_workers_and_sorted() {
        let workers = [0, 1].map(|worker| WorkerState { report: report(worker, true), stalled: false });
        let part = |worker, waiting, warm| PoolOnWorker { worker, waiting, warm, cold: 1, unconfirmed: 2 };
        let pool = |deployment: &str, memory| Pool {
            deployment: deployment.to_owned(),
            version: "20260101.1".to_owned(),
            cpu: 0.5,
            memory,
            ..Pool::default()
        };
        let expected = [
            Pool {
                waiting: 6,
                parked: 1,
                warm: 3,
                cold: 1,
                unconfirmed: 2,
                oldest_wait_ms: 1_000,
                workers: vec![part(0, 6, 3)],
                ..pool("deployment_a", 0.25)
            },
            Pool {
                waiting: 7,
                parked: 1,
                warm: 4,
                cold: 1,
                unconfirmed: 2,
                oldest_wait_ms: 1_000,
                workers: vec![part(1, 7, 4)],
                ..pool("deployment_a", 0.5)
            },
            Pool {
                waiting: 8,
                parked: 2,
                warm: 7,
                cold: 2,
                unconfirmed: 4,
                oldest_wait_ms: 2_001,
                workers: vec![part(0, 4, 3), part(1, 4, 4)],
                ..pool("deployment_b", 1.0)
            },
        ];
        assert_eq!(merge(&workers), expected);
    }
}
