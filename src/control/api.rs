//! `/api`: what the page shows, as JSON, for the page and for programs. docs/reference/api.md says what is in it.

use super::admin::{Admin, Refusal};
use super::cordon::{self, Target};
use super::explain::{self, Asked, Explanation};
use super::history::{self, Sample};
use super::recent::Dispatch;
use super::status::{Key, confirm_name, merged};
use super::workers::{Snapshot, WorkerState};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Rows of keys in an answer: those with most runners first, then the busiest.
const POOLS_MAX: usize = 200;
/// Between two states of a live stream.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// A stream ends by itself, before its connection's time is over; its reader opens the next.
const STREAM_LIFE: Duration = Duration::from_secs(50);

/// What stands now.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Live {
    at_ms: u64,
    version: &'static str,
    engine: &'static str,
    confirm: &'static str,
    uptime_seconds: u64,
    shutting_down: bool,
    connections_limit: usize,
    waiting: u64,
    connections: u64,
    warm: u64,
    cold: u64,
    unconfirmed: u64,
    rejected: u64,
    reasons: BTreeMap<&'static str, u64>,
    dispatches_seen: u64,
    workers: Vec<Worker>,
    cordons: Vec<Target>,
    pools: Vec<Key>,
    pools_total: usize,
}

#[derive(Clone, Debug, serde::Serialize)]
struct Worker {
    worker: usize,
    stalled: bool,
    connections: u64,
    waiting: u64,
    claimed: u64,
    warm: u64,
    cold: u64,
    offers_sent: u64,
    events_dropped: u64,
    turn_p99_us: Option<u64>,
    delivery_p99_us: Option<u64>,
}

impl Worker {
    fn new(WorkerState { report, stalled }: &WorkerState) -> Worker {
        let counters = &report.counters;
        Worker {
            worker: report.worker,
            stalled: *stalled,
            connections: report.connections,
            waiting: report.waiting,
            claimed: report.claimed,
            warm: counters.warm,
            cold: counters.answered_false(),
            offers_sent: counters.offers_sent,
            events_dropped: counters.events_dropped,
            turn_p99_us: report.times.turns.quantile_us(0.99),
            delivery_p99_us: report.times.delivery.quantile_us(0.99),
        }
    }
}

impl Live {
    fn new(admin: &Admin, snapshot: &Snapshot) -> Result<Live, Refusal> {
        let about = admin.about()?;
        let mut pools = merged(snapshot);
        let pools_total = pools.len();
        pools.sort_by_key(|key| std::cmp::Reverse((key.waiting, key.warm + key.cold)));
        pools.truncate(POOLS_MAX);
        let total =
            |of: fn(&crate::broker::counters::Counters) -> u64| snapshot.total(|report| of(&report.counters));
        Ok(Live {
            at_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            version: env!("CARGO_PKG_VERSION"),
            engine: about.engine,
            confirm: confirm_name(about.confirm),
            uptime_seconds: about.uptime.as_secs(),
            shutting_down: about.shutting_down,
            connections_limit: admin.facts.connections_max,
            waiting: snapshot.total(|worker| worker.waiting),
            connections: snapshot.total(|worker| worker.connections),
            warm: total(|c| c.warm),
            cold: total(|c| c.cold()),
            unconfirmed: total(|c| c.unconfirmed),
            rejected: total(|c| c.dispatches_rejected),
            reasons: history::reasons().map(|(reason, of)| (reason, total(of))).collect(),
            dispatches_seen: admin.watch.recent().last(),
            workers: snapshot.workers.iter().map(Worker::new).collect(),
            cordons: cordon::in_force(snapshot).into_iter().map(Target::from).collect(),
            pools,
            pools_total,
        })
    }
}

/// GET /api/live: what stands now.
pub async fn live(State(admin): State<Arc<Admin>>) -> Result<Json<Live>, Refusal> {
    let snapshot = admin.reporter()?.snapshot(true).await;
    Ok(Json(Live::new(&admin, &snapshot)?))
}

/// The last hour.
#[derive(Debug, serde::Serialize)]
pub struct Hour {
    interval_seconds: u64,
    samples: Vec<Sample>,
}

impl Hour {
    fn new(admin: &Admin) -> Hour {
        let samples = admin.watch.history().samples().cloned().collect();
        Hour { interval_seconds: history::INTERVAL_SECONDS, samples }
    }
}

/// GET /api/history: the last hour.
pub async fn history(State(admin): State<Arc<Admin>>) -> Json<Hour> {
    Json(Hour::new(&admin))
}

/// Which dispatches are asked for.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default)]
    after: u64,
}

/// Dispatches that were answered.
#[derive(Debug, serde::Serialize)]
pub struct Dispatches {
    last: u64,
    dispatches: Vec<Arc<Dispatch>>,
}

impl Dispatches {
    fn after(admin: &Admin, after: u64) -> Dispatches {
        let recent = admin.watch.recent();
        Dispatches { last: recent.last(), dispatches: recent.after(after) }
    }
}

/// GET /api/dispatches: those that were answered last.
pub async fn dispatches(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Dispatches>, Refusal> {
    let Query(After { after }) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    Ok(Json(Dispatches::after(&admin, after)))
}

/// GET /api/settings: every flag and its value.
pub async fn settings(State(admin): State<Arc<Admin>>) -> Json<BTreeMap<&'static str, String>> {
    Json(admin.facts.settings.iter().cloned().collect())
}

/// GET /api/explain: why would a run be cold?
pub async fn explain(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Refusal> {
    let Query(asked) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let snapshot = admin.reporter()?.snapshot(true).await;
    Ok(Json(explain::explain(&snapshot, admin.about()?.shutting_down, asked)))
}

/// GET /api/events: `history` once, then `live` every second and `dispatches` as they are answered.
pub async fn events(
    State(admin): State<Arc<Admin>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    admin.reporter()?;
    let watcher = admin.watch.watcher();
    let begun = Instant::now();
    let state = Streaming { admin, _watcher: watcher, begun, seen: 0, queue: Vec::new(), first: true };
    let events = stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok(event), state))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Streaming {
    admin: Arc<Admin>,
    _watcher: super::watch::Watcher,
    begun: Instant,
    /// The last dispatch that was sent.
    seen: u64,
    /// Ready to be sent, the next one last.
    queue: Vec<Event>,
    first: bool,
}

impl Streaming {
    /// The next event. A reader that is slow gets fewer states, not older ones.
    async fn next(&mut self) -> Option<Event> {
        while self.queue.is_empty() {
            if self.begun.elapsed() > STREAM_LIFE {
                return None;
            }
            if !self.first {
                tokio::time::sleep(STATE_INTERVAL).await;
            }
            self.gather().await?;
        }
        self.queue.pop()
    }

    async fn gather(&mut self) -> Option<()> {
        let snapshot = self.admin.reporter().ok()?.snapshot(true).await;
        let live = Live::new(&self.admin, &snapshot).ok()?;
        let dispatches = Dispatches::after(&self.admin, self.seen);
        self.seen = dispatches.last;
        if !dispatches.dispatches.is_empty() {
            self.queue.push(event("dispatches", &dispatches)?);
        }
        self.queue.push(event("live", &live)?);
        let at_sample = live.uptime_seconds % history::INTERVAL_SECONDS == 0;
        if std::mem::take(&mut self.first) || at_sample {
            self.queue.push(event("history", &Hour::new(&self.admin))?);
        }
        Some(())
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Option<Event> {
    // JSON has no line ends of its own: one data line, whatever clients called their deployments.
    Some(Event::default().event(name).data(serde_json::to_string(data).ok()?))
}
