//! `/api`: what the page shows, as JSON. docs/reference/api.md describes it.

use super::refusal::Refusal;
use crate::api::{Dispatches, DispatchesQuery, ExplainQuery, Explanation, History, Live, Settings, Worker};
use crate::broker::counters::Counters;
use crate::control::state::{self, ControlState, Snapshot, Starting, WorkerState};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Pools in an answer: those with most waiting runners, then the busiest.
const POOLS_MAX: usize = 200;

/// GET /api/live
pub async fn live(State(state): State<Arc<ControlState>>) -> Result<Json<Live>, Refusal> {
    let snapshot = state.reporter()?.snapshot(true).await;
    Ok(Json(live_at(&state, &snapshot)?))
}

/// GET /api/history
pub async fn history(State(state): State<Arc<ControlState>>) -> Json<History> {
    Json(state.records.history())
}

/// GET /api/dispatches
pub async fn dispatches(
    State(state): State<Arc<ControlState>>,
    query: Result<Query<DispatchesQuery>, QueryRejection>,
) -> Result<Json<Dispatches>, Refusal> {
    Ok(Json(state.records.dispatches(valid(query)?.after)))
}

/// GET /api/settings
pub async fn settings(State(state): State<Arc<ControlState>>) -> Json<Settings> {
    Json(state.facts.settings.clone())
}

/// GET /api/explain
pub async fn explain(
    State(state): State<Arc<ControlState>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explanation>, Refusal> {
    let asked = valid(query)?;
    let snapshot = state.reporter()?.snapshot(true).await;
    Ok(Json(state::explain(&snapshot, state.is_shutting_down(), asked)))
}

fn valid<Q>(query: Result<Query<Q>, QueryRejection>) -> Result<Q, Refusal> {
    query.map(|Query(query)| query).map_err(|error| Refusal::bad_request(error.body_text()))
}

/// What `/api/live` answers.
pub fn live_at(state: &ControlState, snapshot: &Snapshot) -> Result<Live, Starting> {
    let about = state.about()?;
    let mut pools = snapshot.pools();
    let pools_total = pools.len();
    pools.sort_by_key(|pool| Reverse((pool.waiting, pool.warm + pool.cold + pool.unconfirmed)));
    pools.truncate(POOLS_MAX);
    let counted = |count: fn(&Counters) -> u64| snapshot.total(|report| count(&report.counters));
    Ok(Live {
        at_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: about.engine.to_owned(),
        confirm: about.confirm.to_owned(),
        uptime_seconds: about.uptime.as_secs(),
        shutting_down: about.shutting_down,
        connections_limit: state.facts.connections_max,
        waiting: snapshot.total(|worker| worker.waiting),
        connections: snapshot.total(|worker| worker.connections),
        warm: counted(|c| c.warm),
        cold: counted(Counters::cold),
        unconfirmed: counted(|c| c.unconfirmed),
        rejected: counted(|c| c.dispatches_rejected),
        reasons: state::reasons().map(|(reason, count)| (reason.to_owned(), counted(count))).collect(),
        dispatches_seen: state.records.last_dispatch(),
        workers: snapshot.workers.iter().map(worker).collect(),
        cordons: snapshot.cordons(),
        pools,
        pools_total,
    })
}

fn worker(WorkerState { report, stalled }: &WorkerState) -> Worker {
    let counters = &report.counters;
    Worker {
        worker: report.worker,
        stalled: *stalled,
        connections: report.connections,
        waiting: report.waiting,
        claimed: report.claimed,
        warm: counters.warm,
        cold: counters.cold(),
        unconfirmed: counters.unconfirmed,
        offers_sent: counters.offers_sent,
        events_dropped: counters.events_dropped,
        turn_p99_us: report.times.turns.quantile_us(0.99),
        delivery_p99_us: report.times.delivery.quantile_us(0.99),
    }
}
