//! Responses: constant where they can be, whole in one buffer where they cannot.
//!
//! Each has its Content-Length and leaves Date out, which a server without a clock may
//! (RFC 9110 section 6.6.1).

use super::Rejection;

/// What a response says about its connection (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open: HTTP/1.1's default, nothing said.
    KeepAlive,
    /// It stays open for an HTTP/1.0 client that asked for it, and is told so.
    KeepAliveHttp10,
    /// It ends behind this response.
    Close,
}

impl Persistence {
    /// How a head ends behind the value of its last other field.
    const fn head_end(self) -> &'static str {
        match self {
            Persistence::KeepAlive => "\r\n\r\n",
            Persistence::KeepAliveHttp10 => "\r\nConnection: keep-alive\r\n\r\n",
            Persistence::Close => "\r\nConnection: close\r\n\r\n",
        }
    }
}

/// The interim response to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A 200 with a JSON body, as far as its length.
macro_rules! json_200_until_length {
    () => {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    };
}

macro_rules! json_200 {
    ($length:literal, $connection:literal, $body:literal) => {
        concat!(json_200_until_length!(), $length, "\r\n", $connection, "\r\n", $body).as_bytes()
    };
}

/// `{"didWarmStart":true}`, connection kept.
pub const HIT: &[u8] = json_200!("21", "", r#"{"didWarmStart":true}"#);
/// `{"didWarmStart":true}`, connection kept for an HTTP/1.0 client.
pub const HIT_HTTP10: &[u8] = json_200!("21", "Connection: keep-alive\r\n", r#"{"didWarmStart":true}"#);
/// `{"didWarmStart":true}`, connection closed.
pub const HIT_CLOSE: &[u8] = json_200!("21", "Connection: close\r\n", r#"{"didWarmStart":true}"#);
/// `{"didWarmStart":false}`, connection kept.
pub const MISS: &[u8] = json_200!("22", "", r#"{"didWarmStart":false}"#);
/// `{"didWarmStart":false}`, connection kept for an HTTP/1.0 client.
pub const MISS_HTTP10: &[u8] = json_200!("22", "Connection: keep-alive\r\n", r#"{"didWarmStart":false}"#);
/// `{"didWarmStart":false}`, connection closed.
pub const MISS_CLOSE: &[u8] = json_200!("22", "Connection: close\r\n", r#"{"didWarmStart":false}"#);

/// The whole answer to a dispatch.
pub const fn dispatch_answer(did_warm_start: bool, persistence: Persistence) -> &'static [u8] {
    match (did_warm_start, persistence) {
        (true, Persistence::KeepAlive) => HIT,
        (true, Persistence::KeepAliveHttp10) => HIT_HTTP10,
        (true, Persistence::Close) => HIT_CLOSE,
        (false, Persistence::KeepAlive) => MISS,
        (false, Persistence::KeepAliveHttp10) => MISS_HTTP10,
        (false, Persistence::Close) => MISS_CLOSE,
    }
}

/// The whole answer to `GET /connect`, connection kept. Both times in milliseconds.
pub fn connect_body(connection_timeout_ms: u64, keepalive_ms: u64) -> Vec<u8> {
    let responses = ConnectResponses::new(connection_timeout_ms, keepalive_ms);
    responses.get(Persistence::KeepAlive, false).to_vec()
}

/// Every answer to GET and HEAD `/connect`, made once.
#[derive(Clone, Debug)]
pub struct ConnectResponses {
    /// One per [`Persistence`], in its order: the response and how much of it is its head.
    variants: [(Box<[u8]>, usize); 3],
}

impl ConnectResponses {
    /// Both times in milliseconds.
    pub fn new(connection_timeout_ms: u64, keepalive_ms: u64) -> Self {
        let body =
            format!(r#"{{"connectionTimeoutMs":{connection_timeout_ms},"keepaliveMs":{keepalive_ms}}}"#);
        let variant = |persistence| {
            let mut out = Vec::with_capacity(192);
            json_200_head(&mut out, body.len(), persistence);
            let head_len = out.len();
            out.extend_from_slice(body.as_bytes());
            (out.into_boxed_slice(), head_len)
        };
        ConnectResponses {
            variants: [
                variant(Persistence::KeepAlive),
                variant(Persistence::KeepAliveHttp10),
                variant(Persistence::Close),
            ],
        }
    }

    /// The whole response; to a HEAD the same without its body (RFC 9110 section 9.3.2).
    pub fn get(&self, persistence: Persistence, head_only: bool) -> &[u8] {
        let (response, head_len) = &self.variants[persistence as usize];
        if head_only { &response[..*head_len] } else { response }
    }
}

/// Appends the head of the answer to a poll, whose body is a run of `message_len` bytes.
///
/// An HTTP/1.0 client that asked to keep its connection is not told that it may: pass `close`.
#[inline]
pub fn run_head(out: &mut Vec<u8>, message_len: usize, close: bool) {
    let persistence = match close {
        true => Persistence::Close,
        false => Persistence::KeepAlive,
    };
    json_200_head(out, message_len, persistence);
}

/// The whole answer to a refused request, after which the connection closes. `head_only`: the
/// request was a HEAD, whose answer has no body.
pub fn rejection(rejection: &Rejection, head_only: bool) -> Vec<u8> {
    let mut body = br#"{"error":"#.to_vec();
    push_json_string(&mut body, &rejection.error);
    body.push(b'}');

    let mut out = Vec::with_capacity(192 + body.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(rejection.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(rejection.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(methods) = rejection.allow {
        push_field(&mut out, "Allow", methods);
    }
    if rejection.status == 401 {
        // RFC 9110 section 11.6.1: a 401 names what it wants.
        push_field(&mut out, "WWW-Authenticate", "DeploymentToken realm=\"warm-start\"");
    }
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    push_length_and_end(&mut out, body.len(), Persistence::Close);
    if !head_only {
        out.extend_from_slice(&body);
    }
    out
}

/// The whole answer to OPTIONS: 204 with the resource's methods (RFC 9110 section 9.3.7).
pub fn options(allow: &str, persistence: Persistence) -> Vec<u8> {
    let mut out = b"HTTP/1.1 204 No Content\r\nAllow: ".to_vec();
    out.extend_from_slice(allow.as_bytes());
    out.extend_from_slice(persistence.head_end().as_bytes());
    out
}

#[inline]
fn json_200_head(out: &mut Vec<u8>, body_len: usize, persistence: Persistence) {
    out.extend_from_slice(json_200_until_length!().as_bytes());
    push_length_and_end(out, body_len, persistence);
}

/// The value of Content-Length, and what is behind it in a head.
#[inline]
fn push_length_and_end(out: &mut Vec<u8>, body_len: usize, persistence: Persistence) {
    out.extend_from_slice(itoa::Buffer::new().format(body_len).as_bytes());
    out.extend_from_slice(persistence.head_end().as_bytes());
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 8259 section 7.
fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// RFC 9110 section 15; RFC 6585 for 431.
const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    /// Status, fields and body, by a parser that is not ours.
    fn parsed(response: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(response).unwrap() else {
            panic!("not a whole head: {}", response.escape_ascii());
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let fields = head.headers.iter();
        let fields = fields.map(|h| (h.name.to_owned(), text(h.value))).collect();
        (head.code.unwrap(), fields, response[len..].to_vec())
    }

    fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let found = fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    const EACH: [(Persistence, Option<&str>); 3] = [
        (Persistence::KeepAlive, None),
        (Persistence::KeepAliveHttp10, Some("keep-alive")),
        (Persistence::Close, Some("close")),
    ];

    #[test]
    fn pending_dispatches() {
        for (persistence, connection) in EACH {
            for hit in [true, false] {
                let (status, fields, body) = parsed(dispatch_answer(hit, persistence));
                assert_eq!(status, 200);
                assert_eq!(field(&fields, "Connection"), connection);
                let length = field(&fields, "Content-Length").unwrap();
                assert_eq!(length, body.len().to_string());
                assert_eq!(field(&fields, "Content-Type"), Some("application/json"));
                let expected = format!(r#"{{"didWarmStart":{hit}}}"#);
                assert_eq!(body, expected.as_bytes());
            }
        }
    }

    #[test]
    fn connect() {
        let responses = ConnectResponses::new(30_000, 300_000);
        for (persistence, connection) in EACH {
            let whole = responses.get(persistence, false);
            let (status, fields, body) = parsed(whole);
            assert_eq!((status, field(&fields, "Connection")), (200, connection));
            assert_eq!(body, br#"{"connectionTimeoutMs":30000,"keepaliveMs":300000}"#);
            let length = field(&fields, "Content-Length").unwrap();
            assert_eq!(length, body.len().to_string());
            let head = responses.get(persistence, true);
            assert_eq!(head, &whole[..whole.len() - body.len()]);
        }
        assert_eq!(connect_body(30_000, 300_000), responses.get(Persistence::KeepAlive, false));
    }

    #[test]
    fn runs() {
        let mut out = b"before".to_vec();
        run_head(&mut out, 1_612, false);
        assert_eq!(
            out,
            b"beforeHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1612\r\n\r\n"
        );
        let mut out = Vec::new();
        run_head(&mut out, 0, true);
        let (_, fields, _) = parsed(&out);
        assert_eq!(field(&fields, "Connection"), Some("close"));
        assert_eq!(field(&fields, "Content-Length"), Some("0"));
    }

    #[test]
    fn rejections() {
        let text = "no \"quotes\", \\ or \u{1} or \r\n pass, é does";
        let refusal = Rejection { status: 405, error: Cow::Borrowed(text), allow: Some("GET, OPTIONS") };
        let whole = rejection(&refusal, false);
        let (status, fields, body) = parsed(&whole);
        assert_eq!(status, 405);
        assert_eq!(field(&fields, "Allow"), Some("GET, OPTIONS"));
        assert_eq!(field(&fields, "Connection"), Some("close"));
        let length = field(&fields, "Content-Length").unwrap();
        assert_eq!(length, body.len().to_string());
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json, serde_json::json!({ "error": text }));
        // To a HEAD the same head, and no byte more.
        let head = rejection(&refusal, true);
        assert_eq!(head, &whole[..whole.len() - body.len()]);
        assert!(head.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn options_have_no_content() {
        let (status, fields, body) = parsed(&options("GET, HEAD", Persistence::KeepAlive));
        assert_eq!((status, body.len()), (204, 0));
        // RFC 9110 section 8.6: no Content-Length in a 204.
        assert_eq!(fields, [("Allow".to_owned(), "GET, HEAD".to_owned())]);
    }
}
