//! `/metrics`.

use super::refusal::Refusal;
use crate::control::metrics::{CONTENT_TYPE, ProcessFacts, render};
use crate::control::state::ControlState;
use crate::sys::process::Figures;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub async fn metrics(State(state): State<Arc<ControlState>>) -> Result<Response, Refusal> {
    let snapshot = state.reporter()?.snapshot(true).await;
    let facts = ProcessFacts {
        about: state.about()?,
        connections_max: state.facts.connections_max,
        deployments_max: state.facts.metrics_deployments,
        spans: state.spans.clone(),
        figures: Figures::now(state.facts.own_tables),
    };
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], render(facts, &snapshot)).into_response())
}
