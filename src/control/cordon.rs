//! `/cordon`: keep runs away from a node or a deployment, and list what is kept away.

use super::admin::{Admin, Refusal};
use super::workers::{Reporter, Snapshot};
use crate::broker::report::{Command, Selector};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::info;

/// Longer than any name that Trigger.dev gives.
const NAME_BYTES_MAX: usize = 512;
/// Every poll is held against every drain.
const CORDONS_MAX: usize = 1_024;

/// A node or a deployment, as JSON: `{"node": "…"}` or `{"deployment": "…"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The node's name: x-trigger-worker-instance-name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The deployment's friendly id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// What `/cordon` answers with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cordoned {
    /// Cordoned in force, after the change if there was one.
    pub cordons: Vec<Target>,
    /// Workers that did not answer in time; they carry out the change when they wake up.
    pub stalled_workers: Vec<usize>,
}

impl From<Selector> for Target {
    fn from(selector: Selector) -> Self {
        match selector {
            Selector::Node(name) => Target { node: Some(name), deployment: None },
            Selector::Deployment(id) => Target { node: None, deployment: Some(id) },
        }
    }
}

/// GET: what is drained.
pub async fn list(State(admin): State<Arc<Admin>>) -> Result<Response, Refusal> {
    let snapshot = admin.reporter()?.snapshot(false).await;
    Ok(Json(Cordoned::new(&snapshot)).into_response())
}

/// POST: drain one more.
pub async fn begin(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let reporter = admin.reporter()?;
    let selector = selector(&headers, body)?;
    let in_force = in_force(&*reporter.snapshot(false).await);
    if in_force.len() >= CORDONS_MAX && !in_force.contains(&selector) {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("{CORDONS_MAX} cordons are in force: lift one first"),
        ));
    }
    info!("drain of {} begun", named(&selector));
    Ok(carry_out(reporter, Command::Cordon(selector)).await)
}

/// DELETE: lift one.
pub async fn lift(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let reporter = admin.reporter()?;
    let selector = selector(&headers, body)?;
    if !in_force(&*reporter.snapshot(false).await).contains(&selector) {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("no drain of {} is in force", named(&selector)),
        ));
    }
    info!("drain of {} lifted", named(&selector));
    Ok(carry_out(reporter, Command::Uncordon(selector)).await)
}

async fn carry_out(reporter: &Reporter, command: Command) -> Response {
    let snapshot = reporter.command(command).await;
    let status = match snapshot.stalled().is_empty() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    (status, Json(Cordoned::new(&snapshot))).into_response()
}

impl Cordoned {
    fn new(snapshot: &Snapshot) -> Self {
        Cordoned {
            cordons: in_force(snapshot).into_iter().map(Target::from).collect(),
            stalled_workers: snapshot.stalled(),
        }
    }
}

/// What at least one worker keeps runs away from.
pub fn in_force(snapshot: &Snapshot) -> BTreeSet<Selector> {
    let workers = snapshot.workers.iter();
    workers.flat_map(|worker| worker.report.cordons.iter().cloned()).collect()
}

fn named(selector: &Selector) -> String {
    match selector {
        Selector::Node(name) => format!("instance {name:?}"),
        Selector::Deployment(id) => format!("deployment {id:?}"),
    }
}

fn selector(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Selector, Refusal> {
    // A page in a browser on this machine can send anything but this type to us unasked.
    let content_type = headers.get(header::CONTENT_TYPE);
    let essence = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-type: application/json is needed",
        ));
    }
    let body = body.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    let target: Target = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad(format!("the body is not what is needed: {error}")))?;
    let (field, name, selector) = match target {
        Target { node: Some(name), deployment: None } => ("node", name.clone(), Selector::Node(name)),
        Target { node: None, deployment: Some(id) } => ("deployment", id.clone(), Selector::Deployment(id)),
        _ => {
            return Err(Refusal::bad(r#"one of the two is needed: {"node": "…"} or {"deployment": "…"}"#));
        }
    };
    // Only what a header can carry can ever match.
    if name.is_empty() || name.trim() != name || name.chars().any(char::is_control) {
        return Err(Refusal::bad(format!(
            "{field}: empty, or with blanks around it or control characters in it: no runner is named so"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::bad(format!("{field}: longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(selector)
}
