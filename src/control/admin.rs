//! The routes of the admin side.

use super::status::{About, Status};
use super::traces;
use super::watch::Watch;
use super::workers::Reporter;
use super::{api, cordon, metrics, page};
use crate::broker::settings::Confirm;
use crate::config::{AdminChanges, AdminToken};
use crate::sys::process::Figures;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// A worker that has answered nothing for longer than this makes `/healthz` fail.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A request from its head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 16 << 10;

/// What the admin side knows.
pub struct Admin {
    /// What never changes.
    pub facts: Facts,
    /// What is remembered.
    pub watch: Watch,
    /// What became of spans.
    pub traces: Arc<traces::Figures>,
    /// Unset until every worker serves.
    reporter: OnceLock<Reporter>,
    shutting_down: AtomicBool,
    changes: AdminChanges,
}

/// What the admin side knows from the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What a delivery's proof is.
    pub confirm: Confirm,
    /// Open connections that are allowed.
    pub connections_max: usize,
    /// Workers that have descriptors of their own.
    pub own_tables: usize,
    /// Deployments that have a sample of their own in `/metrics`.
    pub metrics_deployments: usize,
    /// Every flag and its value.
    pub settings: Vec<(&'static str, String)>,
}

/// An answer that is no success: a status and one line.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    /// Any of them.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Refusal { status, error: error.into() }
    }

    /// 400.
    pub fn bad(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.error}))).into_response()
    }
}

impl Admin {
    /// Before the workers have started.
    pub fn new(facts: Facts, watch: Watch) -> Self {
        let (reporter, shutting_down) = (OnceLock::new(), AtomicBool::new(false));
        Admin {
            facts,
            watch,
            traces: Arc::default(),
            reporter,
            shutting_down,
            changes: AdminChanges::ByAnyone,
        }
    }

    /// The same, where `changes` says who may change something.
    pub fn changed(self, changes: AdminChanges) -> Self {
        Admin { changes, ..self }
    }

    /// Every worker serves.
    pub fn serving(&self, reporter: Reporter) {
        assert!(self.reporter.set(reporter).is_ok(), "started once");
    }

    /// The process is on its way out.
    pub fn shutting_down(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// The workers, once they serve.
    pub fn reporter(&self) -> Result<&Reporter, Refusal> {
        self.reporter.get().ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "starting"))
    }

    /// What is running.
    pub fn about(&self) -> Result<About, Refusal> {
        let reporter = self.reporter()?;
        Ok(About {
            engine: reporter.engine_name(),
            uptime: reporter.uptime(),
            shutting_down: self.is_shutting_down(),
            confirm: self.facts.confirm,
        })
    }

    fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    /// Workers that serve and have answered nothing for longer than `silence`.
    pub fn stalled(&self, silence: Duration) -> Vec<usize> {
        match self.reporter() {
            // Workers end one by one when they drain.
            Ok(reporter) if !self.is_shutting_down() => reporter.silent(silence),
            _ => Vec::new(),
        }
    }
}

/// All routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .route("/status", get(status))
        .route("/cordon", get(cordon::list).post(cordon::begin).delete(cordon::lift))
        .route("/api/live", get(api::live))
        .route("/api/history", get(api::history))
        .route("/api/dispatches", get(api::dispatches))
        .route("/api/settings", get(api::settings))
        .route("/api/explain", get(api::explain))
        .route("/api/events", get(api::events))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(admin.clone(), may_change))
        .layer(middleware::from_fn(in_time))
        .with_state(admin)
}

/// Alive: every worker has answered something lately.
async fn healthz(State(admin): State<Arc<Admin>>) -> Response {
    let stalled = admin.stalled(SILENCE_MAX);
    match stalled.is_empty() {
        true => Json(json!({"healthy": true})).into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"healthy": false, "stalled_workers": stalled})))
                .into_response()
        }
    }
}

/// Ready for runners and dispatches.
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reason = match admin.reporter() {
        _ if admin.is_shutting_down() => "shutting_down",
        Err(_) => "starting",
        Ok(_) => return Json(json!({"ready": true})).into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))).into_response()
}

async fn metrics_page(State(admin): State<Arc<Admin>>) -> Result<Response, Refusal> {
    let reporter = admin.reporter()?;
    let snapshot = reporter.snapshot(true).await;
    let facts = metrics::Facts {
        about: admin.about()?,
        connections_max: admin.facts.connections_max,
        deployments_max: admin.facts.metrics_deployments,
        traces: admin.traces.clone(),
        process: Figures::now(admin.facts.own_tables),
    };
    let page = metrics::render(facts, &snapshot);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response())
}

async fn status(State(admin): State<Arc<Admin>>) -> Result<Response, Refusal> {
    let reporter = admin.reporter()?;
    let snapshot = reporter.snapshot(true).await;
    Ok(Json(Status::new(admin.about()?, &snapshot)).into_response())
}

async fn no_such_route() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "there are /, /healthz, /readyz, /metrics, /status, /cordon and /api: see docs/reference/api.md",
    )
}

async fn no_such_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "not with this method: the Allow header names those that are",
    )
}

/// Whoever reaches the admin side may look; what changes something has its own rule.
async fn may_change(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match &admin.changes {
        AdminChanges::ByAnyone => next.run(request).await,
        AdminChanges::ByToken(token) if has_token(&request, token) => next.run(request).await,
        AdminChanges::ByToken(_) => (
            [(header::WWW_AUTHENTICATE, "Bearer")],
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this takes the admin token: `Authorization: Bearer …`, or --admin-token-file of `pilotlight drain`",
            ),
        )
            .into_response(),
        AdminChanges::ByNobody => Refusal::new(
            StatusCode::FORBIDDEN,
            "the admin side is on the network and has no token: start the broker with --admin-token-file, or put --admin-listen on loopback or a Unix domain socket",
        )
        .into_response(),
    }
}

/// Takes as long for a wrong token as for the right one, if they have the same length.
fn has_token(request: &Request, token: &AdminToken) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| {
        let (scheme, given) = value.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given.trim_ascii())
    });
    given.is_some_and(|given| given.ct_eq(token.bytes()).into())
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (
            [(header::CONNECTION, "close")],
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeWorkers, Manner};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unhealthy_once_a_core_is_silent_for_seconds_and_healthy_again_after() {
        let workers = Arc::new(FakeWorkers::new(&[Manner::Answers, Manner::Answers]));
        let admin = Arc::new(super::super::testing::admin());
        admin.serving(Reporter::new(workers.clone()));
        let beat = async || {
            admin.reporter().expect("serving").snapshot(false).await;
            tokio::time::advance(Duration::from_secs(1)).await;
            healthz(State(admin.clone())).await.status()
        };
        for _ in 0..10 {
            assert_eq!(beat().await, StatusCode::OK);
        }
        workers.now(1, Manner::Silent);
        assert_eq!(beat().await, StatusCode::OK);
        for _ in 0..3 {
            beat().await;
        }
        assert_eq!(beat().await, StatusCode::SERVICE_UNAVAILABLE);
        workers.now(1, Manner::Answers);
        assert_eq!(beat().await, StatusCode::OK);
    }
}
