//! Trigger.dev's routes and header fields.
//!
//! Runners `GET /connect`, then hold a `GET /warm-start`; supervisors `POST /warm-start`. What is
//! not a well-formed one of these is refused here. Messages stay opaque.

use std::borrow::Cow;

use super::http::{Framing, Head, Method, Rejection, is_field};
use super::key::{KeyRef, Number};

/// Which listener a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that runners reach, and whatever code runs in them.
    Runner,
    /// The one that supervisors reach.
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

/// Finds what a request asks for, by method, path and side.
///
/// # Errors
/// 404 for a path that this side does not have; 405 with `Allow` for a method that the path does
/// not have (RFC 9110 section 15.5.6); 501 for a method that no resource has (section 15.6.2); 411
/// for a dispatch without a length (section 15.5.12).
///
/// Where runners and supervisors have a listener each, POST `/warm-start` on the runner side is
/// 404: nothing there is to tell task code that it knocks at the right path.
#[inline]
pub fn route(head: &Head<'_>, side: Side, dispatch_on_runner_side: bool) -> Result<Route, Rejection> {
    let is_dispatch = head.method == Method::Post;
    match (side, head.target) {
        (Side::Runner, "/warm-start") if dispatch_on_runner_side => match head.method {
            Method::Get => Ok(Route::Poll),
            _ if is_dispatch => dispatch(head),
            _ => other_method(head, "GET, POST, OPTIONS"),
        },
        (Side::Runner, "/warm-start") if !is_dispatch => match head.method {
            Method::Get => Ok(Route::Poll),
            _ => other_method(head, "GET, OPTIONS"),
        },
        (Side::Runner, "/connect") => match head.method {
            Method::Get | Method::Head => Ok(Route::Connect),
            _ => other_method(head, "GET, HEAD, OPTIONS"),
        },
        (Side::Dispatch, "/warm-start") => match head.method {
            Method::Post => dispatch(head),
            _ => other_method(head, "POST, OPTIONS"),
        },
        // RFC 9110 section 9.3.7: the server as a whole. Only OPTIONS has this target.
        (Side::Runner, "*") if dispatch_on_runner_side => Ok(Route::Options("GET, HEAD, POST, OPTIONS")),
        (Side::Runner, "*") => Ok(Route::Options("GET, HEAD, OPTIONS")),
        (Side::Dispatch, "*") => Ok(Route::Options("POST, OPTIONS")),
        _ => Err(Rejection::new(404, "there is no such path here")),
    }
}

fn dispatch(head: &Head<'_>) -> Result<Route, Rejection> {
    match head.framing {
        Framing::None => Err(Rejection::new(411, "a dispatch needs a Content-Length or a chunked body")),
        Framing::Length(_) | Framing::Chunked => Ok(Route::Dispatch),
    }
}

#[cold]
fn other_method(head: &Head<'_>, allow: &'static str) -> Result<Route, Rejection> {
    match head.method {
        Method::Options => Ok(Route::Options(allow)),
        Method::Get | Method::Head | Method::Post => Err(not_allowed(allow)),
        Method::Other("PUT" | "DELETE" | "PATCH" | "TRACE") => Err(not_allowed(allow)),
        Method::Other(_) => Err(Rejection::new(501, "no resource here has such a method")),
    }
}

fn not_allowed(allow: &'static str) -> Rejection {
    Rejection { allow: Some(allow), ..Rejection::new(405, "the path has no such method") }
}

/// A well-formed poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRequest<'b> {
    /// What the runner can run. The deployment is as it was sent: a friendly id or a token.
    pub key: KeyRef<'b>,
    /// `x-trigger-worker-instance-name`, the node; empty if missing.
    pub node: &'b str,
    /// `x-trigger-workload-controller-id`; empty if missing. Never an identity.
    pub controller: &'b str,
}

/// Reads a poll's header fields.
///
/// # Errors
/// 400 that names the field: one of the key's is missing, repeated, empty or (cpu, memory) not a
/// number; any of them is not UTF-8.
#[inline]
pub fn poll<'b>(head: &Head<'b>) -> Result<PollRequest<'b>, Rejection> {
    let fields = &head.trigger;
    Ok(PollRequest {
        key: KeyRef {
            deployment: fields.key_text(Field::Deployment)?,
            version: fields.key_text(Field::Version)?,
            cpu: fields.key_number(Field::Cpu)?,
            memory: fields.key_number(Field::Memory)?,
        },
        node: fields.text(Field::Node)?.unwrap_or_default(),
        controller: fields.text(Field::Controller)?.unwrap_or_default(),
    })
}

/// The header fields that Trigger.dev adds to HTTP's, as one head has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct TriggerFields<'b> {
    values: [Option<&'b [u8]>; Field::NAMES.len()],
    /// A bit per field that was there more than once.
    repeated: u8,
}

#[derive(Clone, Copy)]
enum Field {
    Deployment,
    Version,
    Cpu,
    Memory,
    Node,
    Controller,
}

impl Field {
    /// By `Field as usize`. No two have the same length.
    const NAMES: [&'static str; 6] = [
        "x-trigger-deployment-id",
        "x-trigger-deployment-version",
        "x-trigger-machine-cpu",
        "x-trigger-machine-memory",
        "x-trigger-worker-instance-name",
        "x-trigger-workload-controller-id",
    ];

    fn name(self) -> &'static str {
        Field::NAMES[self as usize]
    }

    #[inline]
    fn by_name(name: &[u8]) -> Option<Field> {
        // Once per arm, so that each is compared with a constant.
        let is = |field: Field| is_field(name, field.name()).then_some(field);
        match name.len() {
            23 => is(Field::Deployment),
            28 => is(Field::Version),
            21 => is(Field::Cpu),
            24 => is(Field::Memory),
            30 => is(Field::Node),
            32 => is(Field::Controller),
            _ => None,
        }
    }
}

impl<'b> TriggerFields<'b> {
    /// Takes the field if it is one of them. The first of a repeated one stays.
    #[inline]
    pub(super) fn take(&mut self, name: &[u8], value: &'b [u8]) {
        let Some(field) = Field::by_name(name) else {
            return;
        };
        let slot = &mut self.values[field as usize];
        if slot.is_some() {
            self.repeated |= 1 << field as u8;
        } else {
            *slot = Some(value);
        }
    }

    #[inline]
    fn text(&self, field: Field) -> Result<Option<&'b str>, Rejection> {
        match self.values[field as usize].map(std::str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(refuse(field, "must be UTF-8")),
        }
    }

    #[inline]
    fn key_text(&self, field: Field) -> Result<&'b str, Rejection> {
        if self.repeated & 1 << field as u8 != 0 {
            return Err(refuse(field, "is there more than once"));
        }
        match self.text(field)? {
            None => Err(refuse(field, "is missing")),
            Some("") => Err(refuse(field, "is empty")),
            Some(text) => Ok(text),
        }
    }

    #[inline]
    fn key_number(&self, field: Field) -> Result<Number, Rejection> {
        match self.values[field as usize].and_then(Number::parse) {
            Some(number) if self.repeated & 1 << field as u8 == 0 => Ok(number),
            _ => Err(self.not_a_number(field)),
        }
    }

    #[cold]
    fn not_a_number(&self, field: Field) -> Rejection {
        const SHOWN_CHARS: usize = 32;
        let text = match self.key_text(field) {
            Ok(text) => text,
            Err(rejection) => return rejection,
        };
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        let cut = if shown.len() < text.len() { "…" } else { "" };
        let fault = format!("must be a number, not `{}{cut}`", shown.escape_debug());
        refuse(field, &fault)
    }
}

#[cold]
fn refuse(field: Field, fault: &str) -> Rejection {
    Rejection { error: Cow::Owned(format!("{} {fault}", field.name())), ..Rejection::new(400, "") }
}

#[cfg(test)]
mod tests {
    use super::super::http::parse_head;
    use super::*;
    use proptest::prelude::*;

    fn routed(line: &str, side: Side, both: bool) -> Result<Route, (u16, Option<&'static str>)> {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
        let head = parse_head(text.as_bytes()).unwrap();
        route(&head, side, both).map_err(|rejection| (rejection.status, rejection.allow))
    }

    #[test]
    fn one_listener_for_both() {
        let at = |line: &str| routed(line, Side::Runner, true);
        let (paths, connects) = ("GET, POST, OPTIONS", "GET, HEAD, OPTIONS");
        assert_eq!(at("GET /connect"), Ok(Route::Connect));
        assert_eq!(at("HEAD /connect"), Ok(Route::Connect));
        assert_eq!(at("GET /connect?x"), Ok(Route::Connect));
        assert_eq!(at("OPTIONS /connect"), Ok(Route::Options(connects)));
        assert_eq!(at("POST /connect"), Err((405, Some(connects))));
        assert_eq!(at("DELETE /connect"), Err((405, Some(connects))));
        assert_eq!(at("GET /warm-start"), Ok(Route::Poll));
        assert_eq!(at("POST /warm-start"), Ok(Route::Dispatch));
        assert_eq!(at("HEAD /warm-start"), Err((405, Some(paths))));
        assert_eq!(at("PUT /warm-start"), Err((405, Some(paths))));
        assert_eq!(at("TRACE /warm-start"), Err((405, Some(paths))));
        assert_eq!(at("OPTIONS /warm-start"), Ok(Route::Options(paths)));
        assert_eq!(at("OPTIONS *"), Ok(Route::Options("GET, HEAD, POST, OPTIONS")));
        // RFC 9110 section 15.6.2; methods are case-sensitive.
        assert_eq!(at("BREW /connect"), Err((501, None)));
        assert_eq!(at("post /warm-start"), Err((501, None)));
        for path in ["/", "/connect/", "/Connect", "/warm-start/x", "//warm-start", "/%63onnect"] {
            for method in ["GET", "POST", "OPTIONS", "BREW"] {
                assert_eq!(at(&format!("{method} {path}")), Err((404, None)), "{method} {path}");
            }
        }
    }

    #[test]
    fn listeners_of_their_own() {
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
    fn a_dispatch_has_a_length() {
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

    const FIELDS: [(&str, &str); 6] = [
        ("x-trigger-deployment-id", "deployment_abc"),
        ("x-trigger-deployment-version", "20260714.3"),
        ("x-trigger-machine-cpu", "0.50"),
        ("x-trigger-machine-memory", "1e0"),
        ("x-trigger-worker-instance-name", "node-7"),
        ("x-trigger-workload-controller-id", "controller_1"),
    ];

    fn poll_head(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut text = "GET /warm-start HTTP/1.1\r\nHost: a\r\n".to_owned();
        for (name, value) in fields {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }

    fn refusal(fields: &[(&str, &str)]) -> String {
        let bytes = poll_head(fields);
        let rejection = poll(&parse_head(&bytes).unwrap()).unwrap_err();
        assert_eq!(rejection.status, 400);
        rejection.error.into_owned()
    }

    #[test]
    fn a_poll_in_any_order_and_case() {
        let mut fields = FIELDS.map(|(name, value)| (name.to_ascii_uppercase(), value));
        fields.reverse();
        let fields = fields.each_ref().map(|(name, value)| (name.as_str(), *value));
        let bytes = poll_head(&fields);
        let head = parse_head(&bytes).unwrap();
        let poll = poll(&head).unwrap();
        assert_eq!(poll.key.deployment, "deployment_abc");
        assert_eq!(poll.key.version, "20260714.3");
        assert_eq!(Some(poll.key.cpu), Number::parse("0.5"));
        assert_eq!(Some(poll.key.memory), Number::parse("1"));
        assert_eq!(poll.node, "node-7");
        assert_eq!(poll.controller, "controller_1");
    }

    #[test]
    fn each_field_of_the_key_is_named_when_it_is_at_fault() {
        for (at, (name, _)) in FIELDS.iter().enumerate() {
            let required = at < 4;
            let mut fields = FIELDS.to_vec();
            fields.remove(at);
            if required {
                assert_eq!(refusal(&fields), format!("{name} is missing"));
            } else {
                let bytes = poll_head(&fields);
                let head = parse_head(&bytes).unwrap();
                let poll = poll(&head).unwrap();
                assert_eq!([poll.node, poll.controller][at - 4], "");
            }
            if required {
                let mut fields = FIELDS.to_vec();
                fields.push(FIELDS[at]);
                assert_eq!(refusal(&fields), format!("{name} is there more than once"));
                let mut fields = FIELDS.to_vec();
                fields[at].1 = " ";
                assert_eq!(refusal(&fields), format!("{name} is empty"));
            }
        }
    }

    #[test]
    fn machines_are_numbers() {
        for (at, value, shown) in [
            (2, "half", "x-trigger-machine-cpu must be a number, not `half`"),
            (2, "0.5x", "x-trigger-machine-cpu must be a number, not `0.5x`"),
            (2, "NaN", "x-trigger-machine-cpu must be a number, not `NaN`"),
            (3, "1, 1", "x-trigger-machine-memory must be a number, not `1, 1`"),
            (3, "a\tb\"", "x-trigger-machine-memory must be a number, not `a\\tb\\\"`"),
            (3, "Infinity", "x-trigger-machine-memory must be a number, not `Infinity`"),
            (
                3,
                "ééééééééééééééééééééééééééééééééé",
                "x-trigger-machine-memory must be a number, not `éééééééééééééééééééééééééééééééé…`",
            ),
        ] {
            let mut fields = FIELDS.to_vec();
            fields[at].1 = value;
            assert_eq!(refusal(&fields), shown);
        }
    }

    #[test]
    fn values_are_text() {
        for (name, value) in FIELDS {
            let mut bytes = poll_head(&FIELDS);
            let line = format!("{name}: {value}");
            let at = memchr::memmem::find(&bytes, line.as_bytes()).unwrap();
            bytes[at + name.len() + 2] = 0xff;
            let rejection = poll(&parse_head(&bytes).unwrap()).unwrap_err();
            assert_eq!(rejection.error, format!("{name} must be UTF-8"));
        }
    }

    #[test]
    fn names_are_known_by_their_length() {
        for (at, name) in Field::NAMES.iter().enumerate() {
            assert_eq!(Field::by_name(name.as_bytes()).map(|field| field as usize), Some(at));
        }
        assert!(Field::by_name(b"x-trigger-machine-gpu").is_none());
    }

    proptest! {
        #[test]
        fn what_javascript_prints_is_the_number(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let text = format!("{value:e}");
            let mut fields = FIELDS.to_vec();
            fields[2].1 = &text;
            let bytes = poll_head(&fields);
            let head = parse_head(&bytes).unwrap();
            prop_assert_eq!(poll(&head).unwrap().key.cpu.get(), value);
        }
    }
}
