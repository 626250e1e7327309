//! The table of cases: the bytes to send, the source of the case, and the expected outcome.
//!
//! Texts are Latin-1: `\u{ff}` is the byte 0xff. `@KEY@` is a deployment that no other case uses.

mod chunks;
mod coding;
mod connection;
mod fields;
mod length;
mod line;
mod poll;

/// A case.
pub struct Case {
    pub name: &'static str,
    /// A section of an RFC, or a public test suite.
    pub source: &'static str,
    pub send: String,
    pub then: Then,
}

/// The expected outcome of a case. Interim responses do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// These answers; the connection is clean: the next request gets its own answer.
    Clean(&'static [u16]),
    /// These answers; then the connection ends, and the broker ignores requests after the last one.
    Close(&'static [u16]),
    /// These answers, the last one a refusal; then the connection ends, and the broker ignores requests
    /// after the refused one.
    Refuse(&'static [u16]),
    /// The refusal of a single HEAD, which has no body.
    RefuseHead(u16),
    /// An incomplete request: no answer, also after the client's FIN.
    Wait,
    /// A poll for `@KEY@`: held, answered with its run; the connection is clean.
    Hold,
}

pub use Then::{Clean, Close, Hold, Refuse, RefuseHead, Wait};

/// All cases.
pub fn all() -> Vec<Case> {
    [
        line::cases(),
        fields::cases(),
        length::cases(),
        coding::cases(),
        chunks::cases(),
        connection::cases(),
        poll::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn case(name: &'static str, source: &'static str, send: impl Into<String>, then: Then) -> Case {
    Case { name, source, send: send.into(), then }
}

const OK: Then = Clean(&[200]);
const BAD: Then = Refuse(&[400]);
const NOT_FOUND: Then = Refuse(&[404]);
const LENGTH_REQUIRED: Then = Refuse(&[411]);
const NOT_IMPLEMENTED: Then = Refuse(&[501]);
const VERSION: Then = Refuse(&[505]);

/// The body of a dispatch without a runner: 128 (0x80) bytes.
const BODY: &str = r#"{"dequeuedMessage":{"run":{"machine":{"cpu":1,"memory":1}},"deployment":{"friendlyId":"d"},"backgroundWorker":{"version":"v1"}}}"#;

/// A request with this request line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: broker\r\n\r\n")
}

/// A GET with these additional fields.
fn get(fields: &str) -> String {
    format!("GET /connect HTTP/1.1\r\nHost: broker\r\n{fields}\r\n")
}

/// A GET with these fields only.
fn bare(fields: &str) -> String {
    format!("GET /connect HTTP/1.1\r\n{fields}\r\n")
}

/// A dispatch with these fields in addition to Host, and these bytes after the head.
fn post(fields: &str, rest: &str) -> String {
    format!("POST /warm-start HTTP/1.1\r\nHost: broker\r\n{fields}\r\n{rest}")
}

/// A dispatch with this length field.
fn sized(field: &str) -> String {
    post(&format!("{field}\r\n"), BODY)
}

/// A dispatch with this chunked body.
fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", rest)
}

/// A dispatch with a valid chunked body and these fields for its coding.
fn coded(fields: &str) -> String {
    post(&format!("{fields}\r\n"), &one_chunk("80", ""))
}

/// `BODY` in one chunk with this size line, and these trailer fields.
fn one_chunk(size: &str, trailers: &str) -> String {
    format!("{size}\r\n{BODY}\r\n0\r\n{trailers}\r\n")
}

#[test]
fn body_has_the_length_that_the_cases_assume() {
    assert_eq!(BODY.len(), 128);
}
