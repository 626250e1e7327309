//! `/status`: every counter, as JSON.

use super::refusal::Refusal;
use crate::api::{Status, StatusWorker};
use crate::broker::counters::{Counters, FAMILIES};
use crate::control::state::{About, ControlState, Snapshot, WorkerState};
use axum::Json;
use axum::extract::State;
use std::collections::BTreeMap;
use std::sync::Arc;

pub async fn status(State(state): State<Arc<ControlState>>) -> Result<Json<Status>, Refusal> {
    let snapshot = state.reporter()?.snapshot(true).await;
    Ok(Json(merged(state.about()?, &snapshot)))
}

fn merged(about: About, snapshot: &Snapshot) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: about.engine.to_owned(),
        waiting: snapshot.total(|worker| worker.waiting),
        warm: snapshot.total(|worker| worker.counters.warm),
        cold: snapshot.total(|worker| worker.counters.cold()),
        unconfirmed: snapshot.total(|worker| worker.counters.unconfirmed),
        uptime_seconds: about.uptime.as_secs(),
        shutting_down: about.shutting_down,
        confirm: about.confirm.to_owned(),
        workers: snapshot.workers.iter().map(worker).collect(),
        keys: snapshot.pools(),
    }
}

fn worker(state: &WorkerState) -> StatusWorker {
    let report = &state.report;
    StatusWorker {
        worker: report.worker,
        stalled: state.stalled,
        connections: report.connections,
        waiting: report.waiting,
        claimed: report.claimed,
        buffered_bytes: report.buffered_bytes,
        warm: report.counters.warm,
        cold: report.counters.cold(),
        unconfirmed: report.counters.unconfirmed,
        counters: other_counters(&report.counters),
    }
}

/// Every counter that has no field of its own.
fn other_counters(counters: &Counters) -> BTreeMap<String, u64> {
    let named = |name: &str| !matches!(name, "warm" | "unconfirmed");
    let members = FAMILIES.iter().flat_map(|family| family.members);
    let mut values: BTreeMap<String, u64> = members
        .filter_map(|member| {
            Some((member.field.filter(|name| named(name))?.to_owned(), (member.of)(counters)))
        })
        .collect();
    values.insert("refused".to_owned(), counters.refused());
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake_workers::report;
    use std::time::Duration;

    #[test]
    fn status_has_its_fields_in_order_and_every_counter() {
        let state = |worker, stalled| WorkerState { report: report(worker, true), stalled };
        let snapshot = Snapshot { workers: vec![state(0, false), state(1, true)], with_keys: true };
        let about = About {
            engine: "epoll",
            uptime: Duration::from_millis(61_900),
            shutting_down: false,
            confirm: "read",
        };
        let status = merged(about, &snapshot);
        let text = serde_json::to_string(&status).unwrap();
        assert!(
            text.starts_with(&format!(
                r#"{{"version":"{}","engine":"epoll","waiting":21,"warm":201,"cold":90,"unconfirmed":10,"uptime_seconds":61,"shutting_down":false,"confirm":"read","workers":[{{"worker":0,"stalled":false,"connections":30,"waiting":10,"claimed":0,"buffered_bytes":0,"warm":100,"cold":45,"unconfirmed":5,"#,
                env!("CARGO_PKG_VERSION")
            )),
            "{text}"
        );
        assert_eq!(status.workers[1].counters["cold_no_runner"], 40);
        assert!(status.workers[1].stalled);
        assert_eq!(status.keys.len(), 3);
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let counters = Counters::distinct(1);
        let fields =
            FAMILIES.iter().flat_map(|family| family.members).filter(|member| member.field.is_some());
        // `refused` is a sum; `warm` and `unconfirmed` are fields.
        assert_eq!(other_counters(&counters).len() + 1, fields.count());
    }
}
