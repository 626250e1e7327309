//! Trigger.dev's answers: to a dispatch, to `/connect`, and the run that answers a poll.

use crate::broker::http::{Persistence, Rejection, json_head, json_head_until_length};

macro_rules! json_answer {
    ($length:literal, $connection:literal, $body:literal) => {
        concat!(json_head_until_length!(), $length, "\r\n", $connection, "\r\n", $body).as_bytes()
    };
}

const WARM: &[u8] = json_answer!("21", "", r#"{"didWarmStart":true}"#);
const WARM_HTTP10: &[u8] = json_answer!("21", "Connection: keep-alive\r\n", r#"{"didWarmStart":true}"#);
const WARM_CLOSE: &[u8] = json_answer!("21", "Connection: close\r\n", r#"{"didWarmStart":true}"#);
const COLD: &[u8] = json_answer!("22", "", r#"{"didWarmStart":false}"#);
const COLD_HTTP10: &[u8] = json_answer!("22", "Connection: keep-alive\r\n", r#"{"didWarmStart":false}"#);
const COLD_CLOSE: &[u8] = json_answer!("22", "Connection: close\r\n", r#"{"didWarmStart":false}"#);

/// The whole answer to a dispatch.
pub const fn dispatch_answer(did_warm_start: bool, persistence: Persistence) -> &'static [u8] {
    match (did_warm_start, persistence) {
        (true, Persistence::KeepAlive) => WARM,
        (true, Persistence::KeepAliveHttp10) => WARM_HTTP10,
        (true, Persistence::Close) => WARM_CLOSE,
        (false, Persistence::KeepAlive) => COLD,
        (false, Persistence::KeepAliveHttp10) => COLD_HTTP10,
        (false, Persistence::Close) => COLD_CLOSE,
    }
}

/// Appends the head of the answer to a poll, whose body is a run of `message_len` bytes.
///
/// A run may be written to several polls in turn, so its head does not tell an HTTP/1.0
/// client that the connection stays open.
#[inline]
pub fn run_head(out: &mut Vec<u8>, message_len: usize, persistence: Persistence) {
    json_head(out, message_len, persistence);
}

/// 401: the deployment token is refused.
pub fn token_rejection(fault: String) -> Rejection {
    let field = Some(("WWW-Authenticate", "DeploymentToken realm=\"warm-start\""));
    Rejection { field, ..Rejection::with_text(401, fault) }
}

/// All answers to GET and HEAD `/connect`, assembled once.
#[derive(Clone, Debug)]
pub struct ConnectResponses {
    /// Indexed by [`Persistence`]: the response and the length of its head.
    variants: [(Box<[u8]>, usize); 3],
}

impl ConnectResponses {
    /// Both times in milliseconds.
    pub fn new(connection_timeout_ms: u64, keepalive_ms: u64) -> Self {
        let body =
            format!(r#"{{"connectionTimeoutMs":{connection_timeout_ms},"keepaliveMs":{keepalive_ms}}}"#);
        let variant = |persistence| {
            let mut out = Vec::with_capacity(192);
            json_head(&mut out, body.len(), persistence);
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

    /// The whole response; to a HEAD without its body (RFC 9110 section 9.3.2).
    pub fn get(&self, persistence: Persistence, head_only: bool) -> &[u8] {
        let (response, head_len) = &self.variants[persistence as usize];
        if head_only { &response[..*head_len] } else { response }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::http::{field, parsed};

    const EACH: [(Persistence, Option<&str>); 3] = [
        (Persistence::KeepAlive, None),
        (Persistence::KeepAliveHttp10, Some("keep-alive")),
        (Persistence::Close, Some("close")),
    ];

    #[test]
    fn dispatch_answers_state_the_outcome_and_the_persistence() {
        for (persistence, connection) in EACH {
            for warm in [true, false] {
                let (status, fields, body) = parsed(dispatch_answer(warm, persistence));
                assert_eq!(status, 200);
                assert_eq!(field(&fields, "Connection"), connection);
                let length = field(&fields, "Content-Length").unwrap();
                assert_eq!(length, body.len().to_string());
                assert_eq!(field(&fields, "Content-Type"), Some("application/json"));
                let expected = format!(r#"{{"didWarmStart":{warm}}}"#);
                assert_eq!(body, expected.as_bytes());
            }
        }
    }

    #[test]
    fn connect_responses_state_both_timeouts() {
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
    }

    #[test]
    fn run_heads_state_the_length() {
        let mut out = b"before".to_vec();
        run_head(&mut out, 1_612, Persistence::KeepAlive);
        assert_eq!(
            out,
            b"beforeHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1612\r\n\r\n"
        );
        let mut out = Vec::new();
        run_head(&mut out, 0, Persistence::Close);
        let (_, fields, _) = parsed(&out);
        assert_eq!(field(&fields, "Connection"), Some("close"));
        assert_eq!(field(&fields, "Content-Length"), Some("0"));
    }

    #[test]
    fn a_token_rejection_names_the_scheme() {
        let rejection = token_rejection("expired".to_owned());
        let (status, fields, _) = parsed(&crate::broker::http::rejection_response(&rejection, false));
        assert_eq!(status, 401);
        assert_eq!(field(&fields, "WWW-Authenticate"), Some("DeploymentToken realm=\"warm-start\""));
    }
}
