//! Watching the workers: their heartbeat, what they tell of, and what is remembered of it.
//!
//! The workers' events come through a bounded queue that wakes nobody; it is emptied several times a
//! second. Single events are log lines at debug, and what was answered is remembered for the page.

use super::admin::Admin;
use super::bounds::BoundsWatch;
use super::explain::{self, Asked};
use super::history::{History, INTERVAL_SECONDS, Sample, Totals};
use super::recent::{Dispatch, Recent};
use super::status::{Key, merged};
use super::tokens::Summary;
use super::traces::Traces;
use super::workers::{REPORT_AGE_MAX, Reporter, Snapshot};
use crate::broker::event::Event;
use crate::broker::report::Allowance;
use crate::workers::Observed;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

/// The events' queue is looked at this often.
const LOOK: Duration = Duration::from_millis(250);
/// Workers are asked this often, so that silence is noticed without a scraper.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// One line about the traffic this often, if there was any.
const TRAFFIC_LINE: Duration = Duration::from_secs(60);
/// Events taken at one look: what comes faster is dropped by the queue, and counted.
const EVENTS_PER_LOOK: usize = 10_000;
/// Dispatches that a worker tells of per second while somebody looks at the page.
const WATCHED_DISPATCHES: u32 = 1_000;

/// The target of log lines about single events: `--log-level info,pilotlight::events=debug`.
pub const EVENTS: &str = "pilotlight::events";

/// What is remembered.
#[derive(Debug)]
pub struct Watch {
    recent: Mutex<Recent>,
    history: Mutex<History>,
    watchers: Arc<AtomicUsize>,
    sampled_dispatches: u32,
    traced_dispatches: u32,
}

/// Somebody looks; nobody any more once it is dropped.
#[derive(Debug)]
pub struct Watcher(Arc<AtomicUsize>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch {
    /// Nothing yet. Each worker may tell of so many dispatches per second: while nobody looks, and for
    /// the sake of their traces.
    pub fn new(recent_dispatches: usize, sampled_dispatches: u32, traced_dispatches: u32) -> Watch {
        Watch {
            recent: Mutex::new(Recent::new(recent_dispatches)),
            history: Mutex::new(History::default()),
            watchers: Arc::new(AtomicUsize::new(0)),
            sampled_dispatches,
            traced_dispatches,
        }
    }

    /// The dispatches that were answered last.
    pub fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last hour.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody in who looks.
    pub fn watcher(&self) -> Watcher {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher(self.watchers.clone())
    }

    /// What the workers may tell of in the next second.
    pub fn dispatch_events(&self) -> Allowance {
        let any = match self.watchers.load(Ordering::Relaxed) {
            0 => self.sampled_dispatches,
            _ => self.sampled_dispatches.max(WATCHED_DISPATCHES),
        };
        Allowance { any, traced: self.traced_dispatches }
    }
}

/// Whether the log takes single events; asked once, at the start.
pub fn logs_events() -> bool {
    tracing::enabled!(target: EVENTS, tracing::Level::DEBUG)
}

/// Watches until `stop`; what was told of until then is still taken.
pub async fn run(
    admin: Arc<Admin>,
    mut token_faults: Summary,
    mut traces: Option<Traces>,
    stop: impl Future<Output = ()>,
) {
    let mut bounds = BoundsWatch::default();
    const { assert!(HEARTBEAT.as_millis() > REPORT_AGE_MAX.as_millis()) };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let every = |time: Duration| (time.as_millis() / LOOK.as_millis()) as u64;
    let mut looks = 0;
    let mut told = Totals::default();
    let mut near = Near::default();
    tokio::pin!(stop);
    loop {
        let stopped = tokio::select! {
            _ = look.tick() => false,
            () = &mut stop => true,
        };
        if let Ok(reporter) = admin.reporter() {
            take_events(&admin.watch, reporter, &mut near, traces.as_mut()).await;
        }
        if stopped {
            return traces.into_iter().for_each(Traces::finish);
        }
        let Ok(reporter) = admin.reporter() else { continue };
        if looks % every(HEARTBEAT) == 0 {
            let snapshot = reporter.beat(admin.watch.dispatch_events()).await;
            token_faults.say(&snapshot);
            bounds.look(&snapshot);
            if looks % every(Duration::from_secs(INTERVAL_SECONDS)) == 0 {
                admin.watch.history().take(&snapshot);
            }
            if looks % every(TRAFFIC_LINE) == 0 {
                tell_traffic(&mut told, &snapshot);
            }
        }
        looks += 1;
    }
}

/// One line about what came since the last one.
fn tell_traffic(told: &mut Totals, snapshot: &Snapshot) {
    let totals = Totals::of(snapshot);
    let Sample { warm, cold, unconfirmed, rejected, reasons, waiting, .. } = totals.since(told, snapshot);
    let sample = totals.since(told, snapshot);
    *told = totals;
    if warm + cold + unconfirmed + rejected == 0 {
        return;
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    info!(
        warm,
        cold,
        unconfirmed,
        rejected,
        why = reasons.join(" "),
        waiting,
        delivery_p50_us = sample.delivery_p50_us,
        delivery_p99_us = sample.delivery_p99_us,
        "dispatches of the last minute"
    );
}

/// Empties the queue: into the log, and into what is remembered.
async fn take_events(watch: &Watch, reporter: &Reporter, near: &mut Near, mut traces: Option<&mut Traces>) {
    let mut answered = Vec::new();
    for _ in 0..EVENTS_PER_LOOK {
        let Some((observed, age)) = reporter.next_event() else { break };
        log(&observed, age);
        if let Event::Dispatch(event) = &observed.event {
            answered.push(Dispatch::new(observed.worker, age, event));
        }
        if let Some(traces) = &mut traces {
            traces.take(observed, age);
        }
    }
    if let Some(traces) = traces {
        traces.looked();
    }
    let is_near =
        |dispatch: &Dispatch| matches!(dispatch.reason, Some("other_version" | "other_machine_size"));
    if answered.iter().any(is_near) {
        near.refresh(reporter).await;
    }
    let mut recent = watch.recent();
    for mut dispatch in answered {
        dispatch.closest = is_near(&dispatch).then(|| closest(&near.keys, &dispatch)).flatten();
        recent.push(dispatch);
    }
}

/// Who waits, for cold that somebody near waited for. Asked at most once a second, however many
/// cold there are.
#[derive(Default)]
struct Near {
    asked: Option<Instant>,
    keys: Vec<Key>,
}

impl Near {
    async fn refresh(&mut self, reporter: &Reporter) {
        if self.asked.is_none_or(|asked| asked.elapsed() >= HEARTBEAT) {
            self.keys = merged(&*reporter.snapshot(true).await);
            self.asked = Some(Instant::now());
        }
    }
}

fn closest(keys: &[Key], dispatch: &Dispatch) -> Option<String> {
    let asked = Asked {
        deployment: dispatch.deployment.clone()?,
        version: dispatch.version.clone(),
        cpu: dispatch.cpu,
        memory: dispatch.memory,
    };
    explain::closest(keys, &asked)
}

fn log(Observed { worker, event, .. }: &Observed, age: Duration) {
    if !logs_events() {
        return;
    }
    let worker = *worker;
    let ago_ms = age.as_millis() as u64;
    match event {
        Event::PollHeld { key, node } => {
            let key = key.as_ref();
            debug!(target: EVENTS, worker, deployment = key.redacted_deployment(), version = key.version, cpu = key.cpu.get(),
                memory = key.memory.get(), node = &**node, ago_ms, "poll held");
        }
        Event::PollEnded { key, node, end, held_us } => {
            let key = key.as_ref();
            debug!(target: EVENTS, worker, end = end.name(), held_us, deployment = key.redacted_deployment(),
                version = key.version, cpu = key.cpu.get(), memory = key.memory.get(), node = &**node, ago_ms,
                "poll ended");
        }
        Event::Attempt(attempt) => {
            let key = attempt.key.as_ref();
            debug!(target: EVENTS, worker, end = attempt.end.name(), waited_us = attempt.waited_us,
                took_us = attempt.took_us, deployment = key.redacted_deployment(), version = key.version,
                cpu = key.cpu.get(), memory = key.memory.get(), node = &*attempt.node, ago_ms,
                "delivery attempt ended");
        }
        Event::Dispatch(dispatch) => {
            let key = dispatch.key.as_ref().map(|key| key.as_ref());
            debug!(target: EVENTS, worker, outcome = dispatch.outcome.name(), reason = dispatch.outcome.reason(),
                took_us = dispatch.took_us, attempts = dispatch.attempts,
                deployment = key.map(|key| key.redacted_deployment()), version = key.map(|key| key.version),
                cpu = key.map(|key| key.cpu.get()), memory = key.map(|key| key.memory.get()),
                run = dispatch.origin.run.as_deref(), traceparent = dispatch.origin.traceparent.as_deref(), ago_ms, "dispatch answered");
        }
        Event::TokenAtFault { fault } => {
            debug!(target: EVENTS, worker, %fault, ago_ms, "poll held though its token is at fault");
        }
        Event::Rejected { status, error } => {
            debug!(target: EVENTS, worker, status, error, ago_ms, "request refused");
        }
    }
}
