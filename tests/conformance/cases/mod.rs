//! The table: what is sent, where the case is from, and what must become of it.
//!
//! Texts are Latin-1: `\u{ff}` is the byte 0xff. `@KEY@` stands for a deployment that no other case
//! uses.

mod chunks;
mod coding;
mod connection;
mod fields;
mod length;
mod line;
mod poll;

/// One case.
pub struct Case {
    pub name: &'static str,
    /// A section of RFC 9110 or 9112, or the public suite that the case follows.
    pub source: &'static str,
    pub send: String,
    pub then: Then,
}

/// What must become of a case. Interim responses are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// These answers; the connection is clean: the next request on it gets its own answer.
    Clean(&'static [u16]),
    /// These answers; then the connection ends, and nothing behind the last request is run.
    Close(&'static [u16]),
    /// These answers, of which the last one refuses; then the connection ends, and nothing behind
    /// the refused request is run.
    Refuse(&'static [u16]),
    /// The same for a single HEAD: the refusal has no body.
    RefuseHead(u16),
    /// Not a whole request: no answer, not even when the client says that there is no more.
    Wait,
    /// A poll for `@KEY@`: held; answered with its run; the connection is clean.
    Hold,
}

pub use Then::{Clean, Close, Hold, Refuse, RefuseHead, Wait};

/// All of them.
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

/// A dispatch that nobody waits for: 128 bytes, 0x80.
const BODY: &str = r#"{"dequeuedMessage":{"run":{"machine":{"cpu":1,"memory":1}},"deployment":{"friendlyId":"d"},"backgroundWorker":{"version":"v1"}}}"#;

/// A request with this request line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: broker\r\n\r\n")
}

/// A GET with these fields besides.
fn get(fields: &str) -> String {
    format!("GET /connect HTTP/1.1\r\nHost: broker\r\n{fields}\r\n")
}

/// A GET with these fields and no other.
fn bare(fields: &str) -> String {
    format!("GET /connect HTTP/1.1\r\n{fields}\r\n")
}

/// A dispatch with these fields besides Host, and what follows the head.
fn post(fields: &str, rest: &str) -> String {
    format!("POST /warm-start HTTP/1.1\r\nHost: broker\r\n{fields}\r\n{rest}")
}

/// A dispatch whose length is given so.
fn sized(field: &str) -> String {
    post(&format!("{field}\r\n"), BODY)
}

/// A dispatch with this chunked body.
fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", rest)
}

/// A dispatch whose chunked body is framed as it ought to be, and with its coding given so.
fn coded(fields: &str) -> String {
    post(&format!("{fields}\r\n"), &one_chunk("80", ""))
}

/// `BODY` in one chunk with this size line, and these trailer fields.
fn one_chunk(size: &str, trailers: &str) -> String {
    format!("{size}\r\n{BODY}\r\n0\r\n{trailers}\r\n")
}

#[test]
fn the_body_is_as_long_as_the_cases_say() {
    assert_eq!(BODY.len(), 128);
}
