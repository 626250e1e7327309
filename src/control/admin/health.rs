//! `/healthz` and `/readyz`.

use crate::api::{Health, Readiness};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// `/healthz` fails while a worker has not answered for longer than this.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Healthy while every worker answers.
pub async fn healthz(State(state): State<Arc<ControlState>>) -> Response {
    let stalled_workers = state.stalled(SILENCE_MAX);
    let healthy = stalled_workers.is_empty();
    (status(healthy), Json(Health { healthy, stalled_workers })).into_response()
}

/// Ready while the broker takes runners and dispatches.
pub async fn readyz(State(state): State<Arc<ControlState>>) -> Response {
    let reason = match state.reporter() {
        _ if state.is_shutting_down() => Some("shutting_down"),
        Err(_) => Some("starting"),
        Ok(_) => None,
    };
    let ready = reason.is_none();
    (status(ready), Json(Readiness { ready, reason: reason.map(str::to_owned) })).into_response()
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::Reporter;
    use crate::control::tests::fake_workers::{Behaviour, FakeWorkers, starting_state};

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_silent_for_seconds_is_unhealthy_until_it_answers() {
        let workers = Arc::new(FakeWorkers::new(&[Behaviour::Answers, Behaviour::Answers]));
        let state = Arc::new(starting_state());
        state.set_serving(Reporter::new(workers.clone()));
        let beat = async || {
            state.reporter().expect("serving").snapshot(false).await;
            tokio::time::advance(Duration::from_secs(1)).await;
            healthz(State(state.clone())).await.status()
        };
        for _ in 0..10 {
            assert_eq!(beat().await, StatusCode::OK);
        }
        workers.set(1, Behaviour::Silent);
        assert_eq!(beat().await, StatusCode::OK);
        for _ in 0..3 {
            beat().await;
        }
        assert_eq!(beat().await, StatusCode::SERVICE_UNAVAILABLE);
        workers.set(1, Behaviour::Answers);
        assert_eq!(beat().await, StatusCode::OK);
    }
}
