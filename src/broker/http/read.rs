//! Reads request heads: complete ones in one pass, others through [`HeadScanner`] and `httparse`.

use super::application::Application;
use super::fields::Fields;
use super::framing::Version;
use super::head::{HEADER_FIELDS_MAX, Head, Method};
use super::plain;
use super::rejection::Rejection;
use super::scanner::HeadScanner;
use super::target::Target;
use std::mem::MaybeUninit;

const MALFORMED_LINE: Rejection = Rejection::bad("the request line is malformed");

/// Reads a head as soon as it is complete; returns it and its length in bytes. `Ok(None)`: more bytes
/// are needed.
///
/// `buf` holds all of the request so far, as for [`HeadScanner::advance`]. Most heads arrive complete
/// and plain, and are read in one pass.
///
/// # Errors
/// Those of [`HeadScanner::advance`] and of [`parse_head`].
#[inline]
pub fn read_head<'b, A: Application<'b>>(
    scanner: &mut HeadScanner,
    buf: &'b [u8],
    head_bytes_max: usize,
) -> Result<Option<(Head<'b, A>, usize)>, Rejection> {
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

/// Parses a complete head, plain or not, whose end [`HeadScanner`] has found.
///
/// Allocates nothing; everything in the [`Head`] borrows from `head`.
///
/// # Errors
/// - 400: a malformed request line or field (RFC 9112 sections 3 and 5: white space before a colon, a folded line,
///   invalid characters); Host missing, repeated, malformed or different from the target's; a body whose length
///   two readers might see differently (section 6.3).
/// - 417: an expectation other than `100-continue` (RFC 9110 section 10.1.1).
/// - 431: more than [`HEADER_FIELDS_MAX`] fields (RFC 6585 section 5).
/// - 501: CONNECT, or a transfer coding other than `chunked` (RFC 9112 section 6.1).
/// - 505: an HTTP version other than 1.0 and 1.1 (RFC 9110 section 15.6.6).
#[inline(never)]
pub fn parse_head<'b, A: Application<'b>>(head: &'b [u8]) -> Result<Head<'b, A>, Rejection> {
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
    let mut fields = Fields::<'b, A>::default();
    for header in request.headers.iter() {
        fields.take(header.name.as_bytes(), header.value)?;
    }
    Head::new(method, version, target, fields)
}

/// `httparse` skips empty lines; here the caller decides how many to allow.
fn starts_with_empty_line(head: &[u8]) -> bool {
    matches!(head.first(), Some(b'\r' | b'\n'))
}

#[cold]
fn malformed(head: &[u8], error: httparse::Error) -> Rejection {
    match error {
        httparse::Error::TooManyHeaders => Rejection::new(431, "the request head has too many fields"),
        httparse::Error::Version if names_another_version(head) => {
            Rejection::new(505, "only HTTP/1.0 and HTTP/1.1 are supported")
        }
        httparse::Error::HeaderName => Rejection::bad(
            "a field's name is malformed (or has white space before its colon, or its line is folded)",
        ),
        httparse::Error::HeaderValue => Rejection::bad("a field's value contains an invalid character"),
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
