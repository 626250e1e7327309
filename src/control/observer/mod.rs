//! Observes the workers: asks for a report every second, and takes their events four times a second.
//!
//! Events come through a bounded queue that wakes no thread. Single events are log lines at debug. Answered dispatches
//! are recorded for the page.

mod events;
mod limits;
mod token_faults;

pub use events::logs_events;

use super::state::{ControlState, INTERVAL_SECONDS, REPORT_AGE_MAX, Snapshot, Totals};
use super::traces::Traces;
use crate::api::Sample;
use crate::broker::settings::TokenMode;
use events::EventReader;
use limits::LimitWarnings;
use std::sync::Arc;
use std::time::Duration;
use token_faults::TokenFaultWarnings;
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

/// Between two reads of the event queue.
const EVENTS_INTERVAL: Duration = Duration::from_millis(250);
/// Between two reports, so that the broker notices a stalled worker without a client's request.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two log lines about the traffic.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(REPORT_INTERVAL.as_millis() > REPORT_AGE_MAX.as_millis());

/// Observes until `stop`, and then reads the event queue once more.
pub async fn run(
    state: Arc<ControlState>,
    token_mode: TokenMode,
    traces: Option<Traces>,
    stop: impl Future<Output = ()>,
) {
    let mut events = EventReader::new(traces);
    let mut limits = LimitWarnings::default();
    let mut token_faults = TokenFaultWarnings::new(token_mode);
    let mut traffic = Totals::default();
    let mut tick = interval(EVENTS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0;
    let is_due = |ticks: u64, every: Duration| {
        let every = every.as_millis() / EVENTS_INTERVAL.as_millis();
        ticks.is_multiple_of(every as u64)
    };
    tokio::pin!(stop);
    loop {
        let stopped = tokio::select! {
            _ = tick.tick() => false,
            () = &mut stop => true,
        };
        if let Ok(reporter) = state.reporter() {
            events.read(&state.records, reporter).await;
        }
        if stopped {
            return events.finish();
        }
        let Ok(reporter) = state.reporter() else { continue };
        if is_due(ticks, REPORT_INTERVAL) {
            let snapshot = reporter.beat(state.records.allowance()).await;
            token_faults.warn(&snapshot);
            limits.warn(&snapshot);
            if is_due(ticks, Duration::from_secs(INTERVAL_SECONDS)) {
                state.records.sample_log().add(&snapshot);
            }
            if is_due(ticks, TRAFFIC_INTERVAL) {
                log_traffic(&mut traffic, &snapshot);
            }
        }
        ticks += 1;
    }
}

/// One line about the dispatches since `last`, if there were any.
fn log_traffic(last: &mut Totals, snapshot: &Snapshot) {
    let totals = Totals::new(snapshot);
    let Sample {
        warm, cold, unconfirmed, rejected, reasons, waiting, delivery_p50_us, delivery_p99_us, ..
    } = totals.since(last, snapshot);
    *last = totals;
    if warm + cold + unconfirmed + rejected == 0 {
        return;
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    info!(
        warm,
        cold,
        unconfirmed,
        rejected,
        reasons = reasons.join(" "),
        waiting,
        delivery_p50_us,
        delivery_p99_us,
        "dispatches of the last minute"
    );
}
