//! Takes the workers' events: into the log, the records and the traces.

use crate::api::{Dispatch, ExplainQuery, Pool};
use crate::broker::event::{ColdReason, Event};
use crate::control::state::{Records, Reporter, closest, recorded};
use crate::control::traces::Traces;
use crate::workers::Observed;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// The target of log lines about single events: `--log-level info,pilotlight::events=debug`.
const EVENTS: &str = "pilotlight::events";
/// The most events that one read takes. The queue drops and counts the rest.
const EVENTS_PER_READ: usize = 10_000;
/// The age at which the observer asks for [`NearPools`] again.
const NEAR_POOLS_AGE_MAX: Duration = Duration::from_secs(1);

/// Whether the log level includes single events.
pub fn logs_events() -> bool {
    tracing::enabled!(target: EVENTS, tracing::Level::DEBUG)
}

/// Reads the event queue.
pub struct EventReader {
    near: NearPools,
    traces: Option<Traces>,
}

impl EventReader {
    pub fn new(traces: Option<Traces>) -> EventReader {
        EventReader { near: NearPools::default(), traces }
    }

    /// Empties the queue.
    pub async fn read(&mut self, records: &Records, reporter: &Reporter) {
        let mut answered = Vec::new();
        for _ in 0..EVENTS_PER_READ {
            let Some((observed, age)) = reporter.next_event() else { break };
            log(&observed, age);
            if let Event::Dispatch(event) = &observed.event {
                answered.push(recorded(observed.worker, age, event));
            }
            if let Some(traces) = &mut self.traces {
                traces.take(observed, age);
            }
        }
        if let Some(traces) = &mut self.traces {
            traces.queue_due();
        }
        if answered.iter().any(has_near_pools) {
            self.near.refresh(reporter).await;
        }
        let mut log = records.dispatch_log();
        for mut dispatch in answered {
            dispatch.closest =
                has_near_pools(&dispatch).then(|| closest_to(&self.near.pools, &dispatch)).flatten();
            log.push(dispatch);
        }
    }

    /// Queues the spans of everything that was read.
    pub fn finish(self) {
        self.traces.into_iter().for_each(Traces::finish);
    }
}

/// Pools for [`closest`]. The observer asks for them at most once a second, for any number of cold dispatches.
#[derive(Default)]
struct NearPools {
    asked: Option<Instant>,
    pools: Vec<Pool>,
}

impl NearPools {
    async fn refresh(&mut self, reporter: &Reporter) {
        if self.asked.is_none_or(|asked| asked.elapsed() >= NEAR_POOLS_AGE_MAX) {
            self.pools = reporter.snapshot(true).await.pools();
            self.asked = Some(Instant::now());
        }
    }
}

/// Whether runners of the dispatch's deployment were waiting, with another key.
fn has_near_pools(dispatch: &Dispatch) -> bool {
    let near = [ColdReason::OtherVersion, ColdReason::OtherMachineSize];
    near.iter().any(|reason| dispatch.reason.as_deref() == Some(reason.name()))
}

fn closest_to(pools: &[Pool], dispatch: &Dispatch) -> Option<String> {
    let asked = ExplainQuery {
        deployment: dispatch.deployment.clone()?,
        version: dispatch.version.clone(),
        cpu: dispatch.cpu,
        memory: dispatch.memory,
    };
    closest(pools, &asked)
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
        Event::InvalidToken { fault } => {
            debug!(target: EVENTS, worker, %fault, ago_ms, "poll held with a bad token");
        }
        Event::Rejected { status, error } => {
            debug!(target: EVENTS, worker, status, error, ago_ms, "request rejected");
        }
    }
}
