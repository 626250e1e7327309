//! Trigger.dev's routes and header fields.
//!
//! Runners `GET /connect`, then hold a `GET /warm-start`; supervisors `POST /warm-start`. What is
//! not a well-formed one of these is refused here. Messages stay opaque.

use std::borrow::Cow;

use super::http::{Framing, Head, Method, Rejection};
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
pub fn route(
    head: &Head<'_>,
    side: Side,
    dispatch_on_runner_side: bool,
) -> Result<Route, Rejection> {
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
        (Side::Runner, "*") if dispatch_on_runner_side => {
            Ok(Route::Options("GET, HEAD, POST, OPTIONS"))
        }
        (Side::Runner, "*") => Ok(Route::Options("GET, HEAD, OPTIONS")),
        (Side::Dispatch, "*") => Ok(Route::Options("POST, OPTIONS")),
        _ => Err(Rejection::new(404, "there is no such path here")),
    }
}

fn dispatch(head: &Head<'_>) -> Result<Route, Rejection> {
    match head.framing {
        Framing::None => Err(Rejection::new(
            411,
            "a dispatch needs a Content-Length or a chunked body",
        )),
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
    Rejection {
        allow: Some(allow),
        ..Rejection::new(405, "the path has no such method")
    }
}

/// A well-formed poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRequest<'b> {
    /// What the runner can run. The deployment is as it was sent: a friendly id or a token.
    pub key: KeyRef<'b>,
    /// `x-trigger-worker-instance-name`, the node; empty if missing.
    pub instance: &'b str,
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
        instance: fields.text(Field::Instance)?.unwrap_or_default(),
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
    Instance,
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
    fn by_name(name: &str) -> Option<Field> {
        let field = match name.len() {
            23 => Field::Deployment,
            28 => Field::Version,
            21 => Field::Cpu,
            24 => Field::Memory,
            30 => Field::Instance,
            32 => Field::Controller,
            _ => return None,
        };
        name.eq_ignore_ascii_case(field.name()).then_some(field)
    }
}

impl<'b> TriggerFields<'b> {
    /// Takes the field if it is one of them. The first of a repeated one stays.
    #[inline]
    pub(super) fn take(&mut self, name: &str, value: &'b [u8]) {
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
        let text = self.key_text(field)?;
        Number::parse(text).ok_or_else(|| not_a_number(field, text))
    }
}

#[cold]
fn refuse(field: Field, fault: &str) -> Rejection {
    Rejection {
        error: Cow::Owned(format!("{} {fault}", field.name())),
        ..Rejection::new(400, "")
    }
}

#[cold]
fn not_a_number(field: Field, text: &str) -> Rejection {
    const SHOWN_CHARS: usize = 32;
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    let fault = format!("must be a number, not `{}{cut}`", shown.escape_debug());
    refuse(field, &fault)
}
