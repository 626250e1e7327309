//! Checks which requests may change something.

use super::refusal::Refusal;
use crate::config::{AdminChanges, AdminToken};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Passes on requests that only read and changes that are allowed. Refuses all others.
pub async fn check(State(changes): State<Arc<AdminChanges>>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match &*changes {
        AdminChanges::Allowed => next.run(request).await,
        AdminChanges::WithToken(token) if has_token(&request, token) => next.run(request).await,
        AdminChanges::WithToken(_) => (
            [(header::WWW_AUTHENTICATE, "Bearer")],
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this request needs the admin token. Send `Authorization: Bearer …`, or give `pilotlight cordon` and `pilotlight uncordon` --admin-token-file.",
            ),
        )
            .into_response(),
        AdminChanges::Denied => Refusal::new(
            StatusCode::FORBIDDEN,
            "the admin side is on the network and has no token. Start the broker with --admin-token-file, or put --admin-listen on loopback or a Unix domain socket.",
        )
        .into_response(),
    }
}

/// Compares in constant time for tokens of the same length.
fn has_token(request: &Request, token: &AdminToken) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| {
        let (scheme, given) = value.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given.trim_ascii())
    });
    given.is_some_and(|given| given.ct_eq(token.bytes()).into())
}
