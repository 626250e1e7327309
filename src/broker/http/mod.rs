//! HTTP/1.1 (RFC 9110, RFC 9112) as far as a broker needs it: requests in, precomputed responses out.
//!
//! Strict: where servers legitimately differ, the refusal. Whoever is refused is told why once and
//! then disconnected, so that nothing behind a request that we read differently from a proxy in
//! front of us is ever run as a request.
//!
//! ```text
//! bytes -> read_head -> Head -> ChunkedDecoder -> body
//! ```

use std::borrow::Cow;

pub mod body;
mod fields;
pub mod head;
mod plain;
pub mod request;
pub mod response;
mod target;

pub use body::ChunkedDecoder;
pub(in crate::broker) use fields::is_field;
pub use head::{HeadScanner, leading_crlf};
pub use request::{Framing, HEADER_FIELDS_MAX, Head, Method, Version, parse_head, read_head};
pub use response::Persistence;

/// Why a request is refused. Every refusal closes the connection (RFC 9112 section 9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status code: 4xx or 5xx.
    pub status: u16,
    /// What is at fault, for the `error` of the JSON body. Not escaped.
    pub error: Cow<'static, str>,
    /// The methods that the resource has, for the `Allow` of a 405 (RFC 9110 section 10.2.1).
    pub allow: Option<&'static str>,
}

impl Rejection {
    /// A refusal with a fixed text. Allocates nothing.
    pub const fn new(status: u16, error: &'static str) -> Self {
        Rejection { status, error: Cow::Borrowed(error), allow: None }
    }

    /// 400, RFC 9110 section 15.5.1.
    pub(crate) const fn bad(error: &'static str) -> Self {
        Rejection::new(400, error)
    }
}

#[cfg(test)]
mod tests;
