//! The admin side: its routes and who may use them. [`server`] serves them.

mod access;
mod api;
mod cordon;
mod health;
mod metrics;
mod page;
mod refusal;
pub mod server;
mod status;
mod stream;

use super::state::ControlState;
use crate::api::routes;
use crate::config::AdminChanges;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use refusal::Refusal;
use std::sync::Arc;
use std::time::Duration;

/// The longest time from a request's head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 16 << 10;

/// All routes. `changes` says who may change something; everyone who reaches the admin side may read.
pub fn router(state: Arc<ControlState>, changes: AdminChanges) -> Router {
    Router::new()
        .route(routes::PAGE, get(page::index))
        .route(routes::PAGE_STYLE, get(page::style))
        .route(routes::PAGE_SCRIPT, get(page::script))
        .route(routes::HEALTHZ, get(health::healthz))
        .route(routes::READYZ, get(health::readyz))
        .route(routes::METRICS, get(metrics::metrics))
        .route(routes::STATUS, get(status::status))
        .route(routes::CORDON, get(cordon::list).post(cordon::cordon).delete(cordon::uncordon))
        .route(routes::LIVE, get(api::live))
        .route(routes::HISTORY, get(api::history))
        .route(routes::DISPATCHES, get(api::dispatches))
        .route(routes::SETTINGS, get(api::settings))
        .route(routes::EXPLAIN, get(api::explain))
        .route(routes::EVENTS, get(stream::events))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(changes), access::check))
        .layer(middleware::from_fn(time_out))
        .with_state(state)
}

async fn no_such_route() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "no such route. The admin side has /, /healthz, /readyz, /metrics, /status, /cordon and /api: see docs/reference/api.md",
    )
}

async fn no_such_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this route does not support this method. The Allow header lists the methods that it supports.",
    )
}

async fn time_out(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = REQUEST_TIMEOUT.as_secs();
            let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("no answer within {seconds} s"));
            ([(header::CONNECTION, "close")], refusal).into_response()
        }
    }
}
