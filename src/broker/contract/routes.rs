//! Trigger.dev's routes.

use super::poll::{RequestHead, WARM_START};
use crate::broker::http::{Framing, Method, Rejection};

const CONNECT: &str = "/connect";

/// The listener that accepted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reached by runners, and so by any task code.
    Runner,
    /// Reached by supervisors only.
    Dispatch,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// GET or HEAD `/connect`: the two timeouts.
    Connect,
    /// GET `/warm-start`: a runner waits for a run.
    Poll,
    /// POST `/warm-start`: a supervisor has a run.
    Dispatch,
    /// OPTIONS: 204 with this `Allow`.
    Options(&'static str),
}

/// Finds the route by method, path and side.
///
/// # Errors
/// - 404: this side does not have the path.
/// - 405 with `Allow`: the path does not have the method (RFC 9110 section 15.5.6).
/// - 411: a dispatch without a length (section 15.5.12).
/// - 501: no resource has the method (section 15.6.2).
///
/// If runners and supervisors have separate listeners, POST `/warm-start` on the runner side is 404. So task
/// code does not learn that the path exists.
#[inline]
pub fn route(head: &RequestHead<'_>, side: Side, dispatch_on_runner_side: bool) -> Result<Route, Rejection> {
    let is_dispatch = head.method == Method::Post;
    match (side, head.target) {
        (Side::Runner, WARM_START) if dispatch_on_runner_side => match head.method {
            Method::Get => Ok(Route::Poll),
            _ if is_dispatch => dispatch(head),
            _ => other_method(head, "GET, POST, OPTIONS"),
        },
        (Side::Runner, WARM_START) if !is_dispatch => match head.method {
            Method::Get => Ok(Route::Poll),
            _ => other_method(head, "GET, OPTIONS"),
        },
        (Side::Runner, CONNECT) => match head.method {
            Method::Get | Method::Head => Ok(Route::Connect),
            _ => other_method(head, "GET, HEAD, OPTIONS"),
        },
        (Side::Dispatch, WARM_START) => match head.method {
            Method::Post => dispatch(head),
            _ => other_method(head, "POST, OPTIONS"),
        },
        // RFC 9110 section 9.3.7: the server as a whole. Only OPTIONS may have this target.
        (Side::Runner, "*") if dispatch_on_runner_side => Ok(Route::Options("GET, HEAD, POST, OPTIONS")),
        (Side::Runner, "*") => Ok(Route::Options("GET, HEAD, OPTIONS")),
        (Side::Dispatch, "*") => Ok(Route::Options("POST, OPTIONS")),
        _ => Err(Rejection::new(404, "there is no such path")),
    }
}

fn dispatch(head: &RequestHead<'_>) -> Result<Route, Rejection> {
    match head.framing {
        Framing::None => Err(Rejection::new(411, "a dispatch needs a Content-Length or a chunked body")),
        Framing::Length(_) | Framing::Chunked => Ok(Route::Dispatch),
    }
}

#[cold]
fn other_method(head: &RequestHead<'_>, allow: &'static str) -> Result<Route, Rejection> {
    match head.method {
        Method::Options => Ok(Route::Options(allow)),
        Method::Get | Method::Head | Method::Post => Err(not_allowed(allow)),
        Method::Other("PUT" | "DELETE" | "PATCH" | "TRACE") => Err(not_allowed(allow)),
        Method::Other(_) => Err(Rejection::new(501, "no path supports this method")),
    }
}

fn not_allowed(allow: &'static str) -> Rejection {
    Rejection {
        field: Some(("Allow", allow)),
        ..Rejection::new(405, "the path does not support this method")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::http::parse_head;

    fn routed(line: &str, side: Side, both: bool) -> Result<Route, (u16, Option<&'static str>)> {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
        let head = parse_head(text.as_bytes()).unwrap();
        route(&head, side, both)
            .map_err(|rejection| (rejection.status, rejection.field.map(|(_, allow)| allow)))
    }

    #[test]
    fn routes_on_one_listener() {
        let on = |line: &str| routed(line, Side::Runner, true);
        let (paths, connects) = ("GET, POST, OPTIONS", "GET, HEAD, OPTIONS");
        assert_eq!(on("GET /connect"), Ok(Route::Connect));
        assert_eq!(on("HEAD /connect"), Ok(Route::Connect));
        assert_eq!(on("GET /connect?x"), Ok(Route::Connect));
        assert_eq!(on("OPTIONS /connect"), Ok(Route::Options(connects)));
        assert_eq!(on("POST /connect"), Err((405, Some(connects))));
        assert_eq!(on("DELETE /connect"), Err((405, Some(connects))));
        assert_eq!(on("GET /warm-start"), Ok(Route::Poll));
        assert_eq!(on("POST /warm-start"), Ok(Route::Dispatch));
        assert_eq!(on("HEAD /warm-start"), Err((405, Some(paths))));
        assert_eq!(on("PUT /warm-start"), Err((405, Some(paths))));
        assert_eq!(on("TRACE /warm-start"), Err((405, Some(paths))));
        assert_eq!(on("OPTIONS /warm-start"), Ok(Route::Options(paths)));
        assert_eq!(on("OPTIONS *"), Ok(Route::Options("GET, HEAD, POST, OPTIONS")));
        // RFC 9110 section 15.6.2; methods are case-sensitive.
        assert_eq!(on("BREW /connect"), Err((501, None)));
        assert_eq!(on("post /warm-start"), Err((501, None)));
        for path in ["/", "/connect/", "/Connect", "/warm-start/x", "//warm-start", "/%63onnect"] {
            for method in ["GET", "POST", "OPTIONS", "BREW"] {
                assert_eq!(on(&format!("{method} {path}")), Err((404, None)), "{method} {path}");
            }
        }
    }

    #[test]
    fn routes_on_separate_listeners() {
        let runner = |line: &str| routed(line, Side::Runner, false);
        assert_eq!(runner("GET /warm-start"), Ok(Route::Poll));
        assert_eq!(runner("GET /connect"), Ok(Route::Connect));
        assert_eq!(runner("POST /warm-start"), Err((404, None)));
        assert_eq!(runner("HEAD /warm-start"), Err((405, Some("GET, OPTIONS"))));
        assert_eq!(runner("OPTIONS *"), Ok(Route::Options("GET, HEAD, OPTIONS")));
        for both in [true, false] {
            let dispatch = |line: &str| routed(line, Side::Dispatch, both);
            assert_eq!(dispatch("POST /warm-start"), Ok(Route::Dispatch));
            assert_eq!(dispatch("GET /warm-start"), Err((405, Some("POST, OPTIONS"))));
            assert_eq!(dispatch("OPTIONS /warm-start"), Ok(Route::Options("POST, OPTIONS")));
            assert_eq!(dispatch("OPTIONS *"), Ok(Route::Options("POST, OPTIONS")));
            assert_eq!(dispatch("GET /connect"), Err((404, None)));
        }
    }

    #[test]
    fn a_dispatch_without_length_is_411() {
        for (fields, expected) in [
            ("", Err(411)),
            ("Content-Length: 0\r\n", Ok(Route::Dispatch)),
            ("Transfer-Encoding: chunked\r\n", Ok(Route::Dispatch)),
        ] {
            let text = format!("POST /warm-start HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let head = parse_head(text.as_bytes()).unwrap();
            let found = route(&head, Side::Dispatch, false).map_err(|r| r.status);
            assert_eq!(found, expected, "{fields}");
        }
    }
}
