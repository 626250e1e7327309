//! Responses, each assembled in one buffer.
//!
//! Each has a Content-Length. None has a Date, which a server without a clock may omit (RFC 9110 section 6.6.1).

use super::rejection::Rejection;

/// The interim response to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a response says about its connection (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open: the default of HTTP/1.1, not stated.
    KeepAlive,
    /// It stays open for an HTTP/1.0 client that asked for it, as the response states.
    KeepAliveHttp10,
    /// It closes after this response.
    Close,
}

impl Persistence {
    /// The rest of a head after the value of its last other field.
    const fn head_end(self) -> &'static str {
        match self {
            Persistence::KeepAlive => "\r\n\r\n",
            Persistence::KeepAliveHttp10 => "\r\nConnection: keep-alive\r\n\r\n",
            Persistence::Close => "\r\nConnection: close\r\n\r\n",
        }
    }
}

/// The head of a 200 with a JSON body, up to the body's length: a literal, for constant responses.
macro_rules! json_head_until_length {
    () => {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    };
}
pub(crate) use json_head_until_length;

/// Appends the head of a 200 with a JSON body of `body_len` bytes.
#[inline]
pub(crate) fn json_head(out: &mut Vec<u8>, body_len: usize, persistence: Persistence) {
    out.extend_from_slice(json_head_until_length!().as_bytes());
    push_length_and_end(out, body_len, persistence);
}

/// The whole response to a refused request, after which the connection closes. `head_only`: the
/// request was a HEAD, so the response has no body.
pub(crate) fn rejection_response(rejection: &Rejection, head_only: bool) -> Vec<u8> {
    let mut body = br#"{"error":"#.to_vec();
    push_json_string(&mut body, &rejection.error);
    body.push(b'}');

    let mut out = Vec::with_capacity(192 + body.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(rejection.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(rejection.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some((name, value)) = rejection.field {
        push_field(&mut out, name, value);
    }
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    push_length_and_end(&mut out, body.len(), Persistence::Close);
    if !head_only {
        out.extend_from_slice(&body);
    }
    out
}

/// The whole response to OPTIONS: 204 with the resource's methods (RFC 9110 section 9.3.7).
pub(crate) fn options_response(allow: &str, persistence: Persistence) -> Vec<u8> {
    let mut out = b"HTTP/1.1 204 No Content\r\nAllow: ".to_vec();
    out.extend_from_slice(allow.as_bytes());
    out.extend_from_slice(persistence.head_end().as_bytes());
    out
}

/// Appends the value of Content-Length and the rest of the head.
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
pub(in crate::broker) mod tests {
    use super::*;

    /// Status, fields and body, parsed by httparse.
    pub fn parsed(response: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let mut head = httparse::Response::new(&mut slots);
        let httparse::Status::Complete(len) = head.parse(response).unwrap() else {
            panic!("incomplete head: {}", response.escape_ascii());
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let fields = head.headers.iter();
        let fields = fields.map(|h| (h.name.to_owned(), text(h.value))).collect();
        (head.code.unwrap(), fields, response[len..].to_vec())
    }

    /// The value of a field.
    pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let found = fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_rejection_names_its_reason() {
        let text = "no \"quotes\", \\ or \u{1} or \r\n pass, é does";
        let refusal = Rejection { field: Some(("Allow", "GET, OPTIONS")), ..Rejection::new(405, text) };
        let whole = rejection_response(&refusal, false);
        let (status, fields, body) = parsed(&whole);
        assert_eq!(status, 405);
        assert_eq!(field(&fields, "Allow"), Some("GET, OPTIONS"));
        assert_eq!(field(&fields, "Connection"), Some("close"));
        let length = field(&fields, "Content-Length").unwrap();
        assert_eq!(length, body.len().to_string());
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json, serde_json::json!({ "error": text }));
        // The response to HEAD is the same head without the body.
        let head = rejection_response(&refusal, true);
        assert_eq!(head, &whole[..whole.len() - body.len()]);
        assert!(head.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn options_response_has_no_content() {
        let (status, fields, body) = parsed(&options_response("GET, HEAD", Persistence::KeepAlive));
        assert_eq!((status, body.len()), (204, 0));
        // RFC 9110 section 8.6: no Content-Length in a 204.
        assert_eq!(fields, [("Allow".to_owned(), "GET, HEAD".to_owned())]);
    }
}
