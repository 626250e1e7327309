//! `/cordon`: lists the cordons, and cordons or uncordons a node or a deployment.

use super::refusal::Refusal;
use crate::api::{CordonTarget, Cordons};
use crate::broker::report::{Command, Selector};
use crate::control::state::{ControlState, Reporter, Snapshot};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tracing::info;

/// Longer than any name that Trigger.dev generates.
const NAME_BYTES_MAX: usize = 512;
/// A worker compares every poll with every cordon.
const CORDONS_MAX: usize = 1_024;

/// GET: the cordons in force.
pub async fn list(State(state): State<Arc<ControlState>>) -> Result<Json<Cordons>, Refusal> {
    Ok(Json(cordons(&*state.reporter()?.snapshot(false).await)))
}

/// POST: adds a cordon.
pub async fn cordon(
    State(state): State<Arc<ControlState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let reporter = state.reporter()?;
    let selector = selector(&headers, body)?;
    let in_force = reporter.snapshot(false).await.cordons_in_force();
    if in_force.len() >= CORDONS_MAX && !in_force.contains(&selector) {
        let error = format!("{CORDONS_MAX} cordons are in force, which is the limit. Uncordon one first.");
        return Err(Refusal::new(StatusCode::CONFLICT, error));
    }
    info!("cordoned {}", shown(&selector));
    Ok(carry_out(reporter, Command::Cordon(selector)).await)
}

/// DELETE: ends a cordon.
pub async fn uncordon(
    State(state): State<Arc<ControlState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let reporter = state.reporter()?;
    let selector = selector(&headers, body)?;
    if !reporter.snapshot(false).await.cordons_in_force().contains(&selector) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("{} is not cordoned", shown(&selector))));
    }
    info!("uncordoned {}", shown(&selector));
    Ok(carry_out(reporter, Command::Uncordon(selector)).await)
}

async fn carry_out(reporter: &Reporter, command: Command) -> Response {
    let snapshot = reporter.command(command).await;
    let status = match snapshot.stalled().is_empty() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    (status, Json(cordons(&snapshot))).into_response()
}

fn cordons(snapshot: &Snapshot) -> Cordons {
    Cordons { cordons: snapshot.cordons(), stalled_workers: snapshot.stalled() }
}

fn shown(selector: &Selector) -> String {
    match selector {
        Selector::Node(name) => format!("node {name:?}"),
        Selector::Deployment(id) => format!("deployment {id:?}"),
    }
}

fn selector(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Selector, Refusal> {
    // Browsers let any page send other content types without a CORS preflight.
    let content_type = headers.get(header::CONTENT_TYPE);
    let essence = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the body as content-type: application/json",
        ));
    }
    let body = body.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let target: CordonTarget = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!(r#"{error}. Send {{"node": "…"}} or {{"deployment": "…"}}."#))
    })?;
    let (field, name, selector) = match target {
        CordonTarget::Node(name) => ("node", name.clone(), Selector::Node(name)),
        CordonTarget::Deployment(id) => ("deployment", id.clone(), Selector::Deployment(id)),
    };
    // No runner can send such a name: names come from header fields.
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Err(Refusal::bad_request(format!(
            "{field}: {name:?} is empty, or has blanks around it or control characters in it. Send the name as runners do."
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::bad_request(format!("{field}: the name is longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(selector)
}
