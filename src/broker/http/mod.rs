//! HTTP/1.1 (RFC 9110, RFC 9112) as far as a broker needs it. Knows no route and no application field.
//!
//! Strict: where servers legitimately differ, it refuses. A refused request is answered once with the
//! reason, and its connection closes. So bytes that a proxy in front might delimit differently are
//! never executed as a request.
//!
//! ```text
//! bytes -> read_head -> Head -> ChunkedDecoder -> body
//! ```

mod application;
mod chunked;
mod fields;
mod framing;
mod head;
mod plain;
mod read;
mod rejection;
mod response;
mod scanner;
mod target;

pub use application::Application;
pub use chunked::ChunkedDecoder;
pub(crate) use fields::is_field;
pub use framing::{Framing, Version};
pub use head::{HEADER_FIELDS_MAX, Head, Method};
pub use read::{parse_head, read_head};
pub use rejection::Rejection;
#[cfg(test)]
pub(in crate::broker) use response::tests::{field, parsed};
pub use response::{CONTINUE, Persistence};
pub(crate) use response::{json_head, json_head_until_length, options_response, rejection_response};
pub use scanner::{HeadScanner, leading_crlf};

#[cfg(test)]
mod tests;
