//! One request head, parsed once.

use std::mem::MaybeUninit;

use super::Rejection;
use super::fields::Fields;
use super::head::HeadScanner;
use super::plain;
use super::response::Persistence;
use super::target::Target;
use crate::broker::contract::TriggerFields;

/// Header fields that one head may have; more are refused with 431.
pub const HEADER_FIELDS_MAX: usize = 64;

/// A request head: what was asked, and how its body and its connection go on.
#[derive(Clone, Copy, Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method<'b>,
    /// The path without its query, or `*`. An absolute-form target is reduced to its path.
    /// Percent-encodings are not decoded: `/%63onnect` is not `/connect`.
    pub target: &'b str,
    /// The version.
    pub version: Version,
    /// The connection stays open behind the response (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// How long the body is.
    pub framing: Framing,
    /// The client waits for a 100 (Continue) before it sends its body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// Trigger.dev's own fields.
    pub trigger: TriggerFields<'b>,
}

/// A request's method (RFC 9110 section 9). Methods are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'b> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS
    Options,
    /// Any other token.
    Other(&'b str),
}

/// The versions served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a request's body is framed (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// Content-Length, in bytes; 0 if it said so.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

impl<'b> Head<'b> {
    /// The head of what its parts say together.
    #[inline(always)]
    pub(super) fn of(
        method: Method<'b>,
        version: Version,
        target: Target<'b>,
        fields: &Fields<'b>,
    ) -> Result<Self, Rejection> {
        fields.check_host(version, target.authority)?;
        let framing = fields.framing(version)?;
        Ok(Head {
            method,
            target: target.path,
            version,
            keep_alive: fields.keep_alive(version),
            framing,
            expect_continue: fields.expect_continue(version, framing),
            trigger: fields.trigger,
        })
    }

    /// What a response to this request says about the connection.
    pub fn persistence(&self) -> Persistence {
        match (self.keep_alive, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http11) => Persistence::KeepAlive,
            (true, Version::Http10) => Persistence::KeepAliveHttp10,
        }
    }
}

/// Reads a head as soon as it is whole: it, and its length in bytes. `Ok(None)`: more are needed.
///
/// `buf` holds all of the request so far, as for [`HeadScanner::advance`]. Most heads come whole and
/// are plain; they are read at once, any other first looked through for its end.
///
/// # Errors
/// Those of [`HeadScanner::advance`] and of [`parse_head`].
#[inline]
pub fn read_head<'b>(
    scanner: &mut HeadScanner,
    buf: &'b [u8],
    head_bytes_max: usize,
) -> Result<Option<(Head<'b>, usize)>, Rejection> {
    if scanner.is_new()
        && let Some((head, len)) = plain::parse(buf)
        && len <= head_bytes_max
    {
        return Ok(Some((head, len)));
    }
    match scanner.advance(buf, head_bytes_max)? {
        Some(len) => Ok(Some((parse_head(&buf[..len])?, len))),
        None => Ok(None),
    }
}

/// Parses a whole head, plain or not: what [`HeadScanner`] found to end in CRLF CRLF.
///
/// Allocates nothing; everything in the [`Head`] borrows from `head`.
///
/// # Errors
/// - 400: a malformed request line or field (RFC 9112 sections 3 and 5: white space before a colon,
///   a folded line, characters that do not belong); Host missing, repeated or malformed or not the
///   target's; a body whose length two readers might see differently (section 6.3).
/// - 417: an expectation other than `100-continue` (RFC 9110 section 10.1.1).
/// - 431: more than [`HEADER_FIELDS_MAX`] fields (RFC 6585 section 5).
/// - 501: CONNECT, or a transfer coding other than `chunked` (RFC 9112 section 6.1).
/// - 505: an HTTP version other than 1.0 and 1.1 (RFC 9110 section 15.6.6).
#[inline(never)]
pub fn parse_head(head: &[u8]) -> Result<Head<'_>, Rejection> {
    let mut slots = [const { MaybeUninit::uninit() }; HEADER_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    if starts_with_empty_line(head) {
        return Err(Rejection::bad("the request line is empty"));
    }
    match request.parse_with_uninit_headers(head, &mut slots) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(Rejection::bad("the request head is not one head")),
        Err(error) => return Err(malformed(head, error)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(MALFORMED_LINE);
    };
    let method = Method::parse(method)?;
    let version = match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    };
    let target = Target::parse(target, method == Method::Options)?;
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.take(header.name.as_bytes(), header.value)?;
    }
    Head::of(method, version, target, &fields)
}

const MALFORMED_LINE: Rejection = Rejection::bad("the request line is malformed");

/// `httparse` skips empty lines; how many are fit is for the caller to say.
fn starts_with_empty_line(head: &[u8]) -> bool {
    matches!(head.first(), Some(b'\r' | b'\n'))
}

impl<'b> Method<'b> {
    fn parse(token: &'b str) -> Result<Self, Rejection> {
        match token {
            "GET" => Ok(Method::Get),
            "POST" => Ok(Method::Post),
            "HEAD" => Ok(Method::Head),
            "OPTIONS" => Ok(Method::Options),
            "CONNECT" => Err(Rejection::new(501, "CONNECT is not served here")),
            _ => Ok(Method::Other(token)),
        }
    }
}

#[cold]
fn malformed(head: &[u8], error: httparse::Error) -> Rejection {
    match error {
        httparse::Error::TooManyHeaders => Rejection::new(431, "the request head has too many fields"),
        httparse::Error::Version if names_another_version(head) => {
            Rejection::new(505, "only HTTP/1.0 and HTTP/1.1 are served here")
        }
        httparse::Error::HeaderName => Rejection::bad(
            "a field's name is malformed (or has white space before its colon, or its line is folded)",
        ),
        httparse::Error::HeaderValue => {
            Rejection::bad("a field's value holds a character that none may have")
        }
        _ => MALFORMED_LINE,
    }
}

/// Whether the request line ends in `HTTP/DIGIT.DIGIT` (RFC 9112 section 2.3) as its third part.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&b| b == b' ').skip(2);
    let version = parts.next().and_then(|part| part.strip_prefix(b"HTTP/"));
    let is_version = matches!(version, Some([major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit());
    is_version && parts.next().is_none()
}
