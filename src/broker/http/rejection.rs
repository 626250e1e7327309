//! Why a request is refused.

use std::borrow::Cow;

/// Why a request is refused. Every refusal closes the connection (RFC 9112 section 9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 4xx or 5xx.
    pub status: u16,
    /// For the member `error` of the JSON body. Not escaped yet.
    pub error: Cow<'static, str>,
    /// A header field that the status requires, as (name, value): `Allow` of a 405 (RFC 9110 section
    /// 10.2.1), `WWW-Authenticate` of a 401 (section 11.6.1).
    pub field: Option<(&'static str, &'static str)>,
}

impl Rejection {
    /// A refusal with a fixed text. Does not allocate.
    pub const fn new(status: u16, error: &'static str) -> Self {
        Rejection { status, error: Cow::Borrowed(error), field: None }
    }

    /// 400, RFC 9110 section 15.5.1.
    pub(crate) const fn bad(error: &'static str) -> Self {
        Rejection::new(400, error)
    }

    /// A refusal with a text made for this request.
    pub(crate) fn with_text(status: u16, error: String) -> Self {
        Rejection { status, error: Cow::Owned(error), field: None }
    }
}
