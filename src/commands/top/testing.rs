//! Invented answers of a broker.

use super::view::{Answers, Update};
use crate::api::{Cordon, Dispatch, Dispatches, History, Live, Pool, Sample, Worker};

/// The answers at `at_ms`, with an uptime of `second` seconds: one cold and two warm runs per second.
pub fn answers(at_ms: u64, second: u64) -> Update {
    let pool = |deployment: &str, waiting, warm| Pool {
        deployment: deployment.to_owned(),
        version: "20260801.1".to_owned(),
        cpu: 0.5,
        memory: 0.5,
        waiting,
        warm,
        cold: 3,
        oldest_wait_ms: 61_000,
        ..Pool::default()
    };
    let live = Live {
        at_ms,
        version: "0.1.0".to_owned(),
        engine: "epoll".to_owned(),
        confirm: "read".to_owned(),
        uptime_seconds: second,
        connections_limit: 1_000,
        waiting: 12,
        connections: 25,
        warm: second * 2,
        cold: second,
        reasons: [("other_version".to_owned(), second)].into(),
        workers: vec![Worker {
            warm: second * 2,
            cold: second,
            waiting: 12,
            turn_p99_us: Some(80),
            ..Worker::default()
        }],
        cordons: vec![Cordon { node: Some("worker-3".to_owned()), deployment: None }],
        pools: vec![pool("deployment_a", 2, 70), pool("deployment_b", 10, 7)],
        pools_total: 2,
        ..Live::default()
    };
    let sample = |warm| Sample {
        warm,
        cold: 2,
        delivery_p50_us: Some(320),
        delivery_p99_us: Some(1_280),
        ..Sample::default()
    };
    let history = Some(History { samples: (0..360).map(sample).collect(), ..History::default() });
    let dispatches = Dispatches { last: 2, dispatches: vec![dispatch(1), dispatch(2)] };
    Update::Answered(Box::new(Answers { live, history, dispatches }))
}

/// A dispatch; those with an odd `seq` are warm.
pub fn dispatch(seq: u64) -> Dispatch {
    let warm = seq % 2 == 1;
    Dispatch {
        seq,
        at_ms: 1_785_000_000_000 + seq * 1_000,
        outcome: if warm { "warm" } else { "cold" }.to_owned(),
        reason: (!warm).then(|| "other_version".to_owned()),
        closest: (!warm).then(|| "3 wait for 20260731.4".to_owned()),
        run: Some(format!("run_{seq}")),
        deployment: Some("deployment_a".to_owned()),
        version: Some("20260801.1".to_owned()),
        took_us: 410,
        ..Dispatch::default()
    }
}
