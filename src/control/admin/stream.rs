//! `/api/events`: a stream of `history`, `live` and `dispatches`.

use super::api::live_at;
use super::refusal::Refusal;
use crate::control::state::{ControlState, INTERVAL_SECONDS, Viewer};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two `live` events.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// The stream ends before its connection is closed. `EventSource` opens the next one.
const LIFE_MAX: Duration = Duration::from_secs(50);

/// `live` every second, `dispatches` when there are new ones, `history` at the start and every ten seconds.
pub async fn events(
    State(state): State<Arc<ControlState>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    state.reporter()?;
    let events = stream::unfold(EventStream::new(state), |mut events| async move {
        let event = events.next().await?;
        Some((Ok(event), events))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct EventStream {
    state: Arc<ControlState>,
    _viewer: Viewer,
    started: Instant,
    /// The number of the last dispatch that was sent.
    last_dispatch: u64,
    /// Events to send, the next one last.
    queue: Vec<Event>,
    first: bool,
}

impl EventStream {
    fn new(state: Arc<ControlState>) -> EventStream {
        let viewer = state.records.add_viewer();
        EventStream {
            state,
            _viewer: viewer,
            started: Instant::now(),
            last_dispatch: 0,
            queue: Vec::new(),
            first: true,
        }
    }

    /// The next event. A slow client gets fewer events, not older ones.
    async fn next(&mut self) -> Option<Event> {
        while self.queue.is_empty() {
            if self.started.elapsed() > LIFE_MAX {
                return None;
            }
            if !self.first {
                sleep(LIVE_INTERVAL).await;
            }
            self.gather().await?;
        }
        self.queue.pop()
    }

    async fn gather(&mut self) -> Option<()> {
        let snapshot = self.state.reporter().ok()?.snapshot(true).await;
        let live = live_at(&self.state, &snapshot).ok()?;
        let dispatches = self.state.records.dispatches(self.last_dispatch);
        self.last_dispatch = dispatches.last;
        if !dispatches.dispatches.is_empty() {
            self.queue.push(event("dispatches", &dispatches)?);
        }
        self.queue.push(event("live", &live)?);
        let at_sample = live.uptime_seconds.is_multiple_of(INTERVAL_SECONDS);
        if std::mem::take(&mut self.first) || at_sample {
            self.queue.push(event("history", &self.state.records.history())?);
        }
        Some(())
    }
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    // JSON escapes line ends, so no name that a client chose can end the data line.
    Some(Event::default().event(name).data(serde_json::to_string(data).ok()?))
}
