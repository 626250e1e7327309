//! Answers that are not a success.

use crate::api::ErrorAnswer;
use crate::control::state::Starting;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A status and one line.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Refusal { status, error: error.into() }
    }

    pub fn bad_request(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Starting> for Refusal {
    fn from(starting: Starting) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, starting.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorAnswer { error: self.error })).into_response()
    }
}
