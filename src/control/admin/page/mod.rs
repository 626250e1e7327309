//! The page at the admin side's root: three embedded files that load nothing from elsewhere.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

/// The page loads only from this listener, and cannot turn data into markup, style or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

fn file(content_type: &'static str, text: &'static str) -> Response {
    let fields = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Files of two versions must not be mixed.
        (CACHE_CONTROL, "no-cache"),
    ];
    (fields, text).into_response()
}

/// GET /
pub async fn index() -> Response {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

/// GET /page.css
pub async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page.css"))
}

/// GET /page.js
pub async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page.js"))
}
