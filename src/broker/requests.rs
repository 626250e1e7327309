//! Bytes to requests: heads and bodies as they arrive, one request at a time.
//!
//! A request that arrives whole is parsed where the engine read it. What is incomplete, and what is
//! pipelined behind a request that is not answered yet, moves to the connection's own buffer.

use super::Broker;
use super::conn::{Body, State};
use super::contract::{self, Route};
use super::event::{self, Event};
use super::http::response::{self, Persistence};
use super::http::{ChunkedDecoder, Framing, Head, HeadScanner, Rejection, leading_crlf, read_head};
use super::io::{ConnId, Output, Payload, Shared};
use super::json::JsonError;
use super::time::Time;
use std::sync::Arc;

/// Empty lines allowed in front of a request line (RFC 9112 section 2.2), in bytes.
const LEADING_CRLF_BYTES_MAX: usize = 8;
/// Reserved at once for an announced body; more is reserved as it arrives.
const BODY_RESERVE_BYTES_MAX: usize = 64 * 1024;

impl<S: Shared> Broker<S> {
    pub(super) fn received(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get(id) else { return };
        self.counters.bytes_in += bytes.len() as u64;
        match conn.state {
            State::Fresh { .. } => {
                self.no_longer_silent(id.slot);
                self.conns.at(id.slot).state = State::Idle;
                self.take_in(now, id, bytes);
            }
            State::Idle | State::Head(_) | State::Body(_) => self.take_in(now, id, bytes),
            State::Writing { refused: true } | State::Lingering | State::Free => {}
            _ => self.keep(id.slot, bytes),
        }
        self.bound_bytes(now, id);
    }

    /// Runs the requests in `bytes`, behind what the buffer holds already.
    fn take_in(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let conn = self.conns.at(id.slot);
        if conn.buffer.is_empty() {
            let used = self.consume(now, id, bytes);
            if used < bytes.len() {
                self.keep(id.slot, &bytes[used..]);
            }
        } else {
            conn.buffer.extend_from_slice(bytes);
            self.consume_buffer(now, id);
        }
    }

    fn consume_buffer(&mut self, now: Time, id: ConnId) {
        let buffer = std::mem::take(&mut self.conns.at(id.slot).buffer);
        let used = self.consume(now, id, &buffer);
        if used == buffer.len() {
            return;
        }
        // Nobody else can have put anything there meanwhile.
        self.conns.at(id.slot).buffer = if used == 0 { buffer } else { buffer[used..].to_vec() };
    }

    /// Keeps what can't be used yet; pauses reading when that is too much.
    fn keep(&mut self, slot: u32, bytes: &[u8]) {
        let pipeline_bytes_max = self.settings.pipeline_bytes_max;
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        conn.buffer.extend_from_slice(bytes);
        let parsing = matches!(conn.state, State::Head(_) | State::Body(_));
        if !parsing && !conn.paused && conn.buffer.len() >= pipeline_bytes_max {
            conn.paused = true;
            self.outputs.push_back(Output::Pause { conn: id });
        }
    }

    pub(super) fn resume(&mut self, slot: u32) {
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        if conn.paused {
            conn.paused = false;
            self.outputs.push_back(Output::Resume { conn: id });
        }
    }

    /// Runs requests until one has to wait or bytes are missing; answers how many bytes are used.
    /// A connection that ended has used them all.
    fn consume(&mut self, now: Time, id: ConnId, input: &[u8]) -> usize {
        let mut used = 0;
        let mut begun = false;
        loop {
            let Some(conn) = self.conns.get(id) else { return input.len() };
            let mut rest = &input[used..];
            let mut scanner = match &conn.state {
                State::Idle if !rest.is_empty() => {
                    let empty_lines_len = leading_crlf(rest);
                    if empty_lines_len <= LEADING_CRLF_BYTES_MAX
                        && matches!(rest[empty_lines_len..], [] | [b'\r'])
                    {
                        // No request yet, and perhaps more empty lines: they are counted together,
                        // however they are fragmented.
                        break;
                    }
                    let skipped_len = empty_lines_len.min(LEADING_CRLF_BYTES_MAX);
                    used += skipped_len;
                    rest = &rest[skipped_len..];
                    begun = true;
                    HeadScanner::default()
                }
                State::Head(scanner) => *scanner,
                State::Body(_) if !rest.is_empty() => {
                    used += self.body_bytes(now, id.slot, rest);
                    continue;
                }
                State::Writing { refused: true } | State::Lingering => return input.len(),
                _ => break,
            };
            match read_head(&mut scanner, rest, self.settings.head_bytes_max) {
                Ok(Some((head, len))) => {
                    conn.state = State::Idle;
                    conn.request = conn.request.wrapping_add(1);
                    used += len + self.head_complete(now, id.slot, &head, &rest[..len], &rest[len..]);
                }
                Ok(None) => {
                    conn.state = State::Head(scanner);
                    break;
                }
                Err(rejection) => self.reject(now, id.slot, &rejection, is_head(rest)),
            }
        }
        if begun && self.conns.at(id.slot).state.is_incomplete_request() {
            self.timers.arm(id.slot, now.plus_ms(self.settings.request_timeout_ms));
        }
        used
    }

    /// A head is complete. Answers how many bytes of the body behind it are used.
    fn head_complete(&mut self, now: Time, slot: u32, head: &Head<'_>, bytes: &[u8], behind: &[u8]) -> usize {
        let head_only = head.method == super::http::Method::Head;
        let conn = self.conns.at(slot);
        conn.persistence = if self.shutdown.is_some() { Persistence::Close } else { head.persistence() };
        let result = contract::route(head, conn.side, self.settings.dispatch_on_runner_side)
            .and_then(|route| self.run(now, slot, route, head, bytes, behind));
        match result {
            Ok(used) => used,
            Err(rejection) => {
                self.reject(now, slot, &rejection, head_only);
                0
            }
        }
    }

    fn run(
        &mut self,
        now: Time,
        slot: u32,
        route: Route,
        head: &Head<'_>,
        bytes: &[u8],
        behind: &[u8],
    ) -> Result<usize, Rejection> {
        if route == Route::Dispatch {
            if self.tells_of_dispatches() {
                self.traceparent = event::traceparent_of(bytes).map(Box::from);
            }
            let begun = self.begin_body(now, slot, head, behind);
            self.counters.dispatches_rejected += u64::from(begun.is_err());
            return begun;
        }
        if !matches!(head.framing, Framing::None | Framing::Length(0)) {
            // RFC 9110 section 9.3.1: content in a GET has no meaning, and may be refused.
            return Err(Rejection::new(400, "this request must not have a body"));
        }
        match route {
            Route::Poll => {
                let poll = contract::poll(head)?;
                self.admit_poll(now, slot, &poll)?;
            }
            Route::Connect => {
                self.counters.connects += 1;
                let head_only = head.method == super::http::Method::Head;
                let persistence = self.conns.peek(slot).persistence;
                let response = self.connect_responses.get(persistence, head_only);
                let payload = Payload::Shared(Arc::new(response.into()));
                self.respond(now, slot, payload, false);
            }
            Route::Options(allow) => {
                let persistence = self.conns.peek(slot).persistence;
                let payload = Payload::Shared(Arc::new(response::options(allow, persistence)));
                self.respond(now, slot, payload, false);
            }
            Route::Dispatch => {}
        }
        Ok(0)
    }

    fn begin_body(
        &mut self,
        now: Time,
        slot: u32,
        head: &Head<'_>,
        behind: &[u8],
    ) -> Result<usize, Rejection> {
        if !self.conns.peek(slot).may_dispatch {
            self.counters.dispatches_forbidden += 1;
            return Err(Rejection::new(
                403,
                "this address may not dispatch: --dispatch-allow does not cover it",
            ));
        }
        let body = match head.framing {
            Framing::Length(length) if length > self.settings.body_bytes_max as u64 => {
                return Err(Rejection::new(413, "the body is longer than this broker takes"));
            }
            Framing::Length(length) if behind.len() as u64 >= length => {
                let length = length as usize;
                self.dispatch(now, slot, &behind[..length]);
                return Ok(length);
            }
            Framing::Length(length) => {
                let length = length as usize;
                let received = Vec::with_capacity(length.min(BODY_RESERVE_BYTES_MAX));
                Body::Length { received, length, traceparent: self.traceparent.take() }
            }
            _ => Body::Chunked {
                received: Vec::new(),
                decoder: ChunkedDecoder::new(self.settings.head_bytes_max),
                traceparent: self.traceparent.take(),
            },
        };
        let conn = self.conns.id(slot);
        if head.expect_continue && behind.is_empty() {
            self.conns.at(slot).state = State::Continue(Box::new(body));
            let payload = Payload::Static(response::CONTINUE);
            self.outputs.push_back(Output::Send { conn, payload, confirm: super::io::SendConfirm::None });
        } else {
            self.conns.at(slot).state = State::Body(Box::new(body));
        }
        Ok(0)
    }

    /// More of a dispatch's body. Answers how many bytes of `input` belong to it.
    fn body_bytes(&mut self, now: Time, slot: u32, input: &[u8]) -> usize {
        let state = std::mem::replace(&mut self.conns.at(slot).state, State::Idle);
        let State::Body(mut body) = state else { return 0 };
        let (used, done) = match &mut *body {
            Body::Length { received, length, .. } => {
                let used = input.len().min(*length - received.len());
                if received.capacity() - received.len() < used {
                    // As a vector grows by itself, but never beyond what was announced.
                    let missing = *length - received.len();
                    received.reserve_exact(missing.min(received.len().max(used)));
                }
                received.extend_from_slice(&input[..used]);
                (used, received.len() == *length)
            }
            Body::Chunked { received, decoder, .. } => {
                match decoder.advance(input, received, self.settings.body_bytes_max) {
                    Ok(progress) => progress,
                    Err(rejection) => {
                        self.counters.dispatches_rejected += 1;
                        self.reject(now, slot, &rejection, false);
                        return 0;
                    }
                }
            }
        };
        if done {
            let (Body::Length { received, traceparent, .. } | Body::Chunked { received, traceparent, .. }) =
                *body;
            self.traceparent = traceparent;
            self.dispatch(now, slot, &received);
        } else {
            self.conns.at(slot).state = State::Body(body);
        }
        used
    }

    /// The interim response is out: the body may come.
    pub(super) fn continued(&mut self, now: Time, id: ConnId) {
        let conn = self.conns.at(id.slot);
        let state = std::mem::replace(&mut conn.state, State::Idle);
        let State::Continue(body) = state else { return };
        conn.state = State::Body(body);
        self.consume_buffer(now, id);
        self.resume(id.slot);
        self.bound_bytes(now, id);
    }

    /// The response is out (or confirmed): on to the next request, or to the end.
    pub(super) fn request_done(&mut self, now: Time, slot: u32) {
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        if conn.persistence == Persistence::Close {
            return if conn.buffer.is_empty() { self.close(slot) } else { self.linger(now, slot) };
        }
        conn.state = State::Idle;
        if !conn.buffer.is_empty() {
            self.consume_buffer(now, id);
            let Some(conn) = self.conns.get(id) else { return };
            // A request that is incomplete needs its rest, however much of it is here.
            if conn.state.is_incomplete_request() || conn.buffer.len() < self.settings.pipeline_bytes_max {
                self.resume(slot);
            }
        }
        self.bound_bytes(now, id);
        let Some(conn) = self.conns.get(id) else { return };
        let between = matches!(conn.state, State::Idle) || conn.state.is_incomplete_request();
        if between && conn.peer_closed {
            return self.close(slot);
        }
        if matches!(conn.state, State::Idle) {
            self.timers.arm(slot, now.plus_ms(self.settings.idle_timeout_ms));
        }
    }

    /// The peer took too long over a request. Closed without an answer: half a request may be half
    /// a poll, and a runner survives a close, not a 408.
    pub(super) fn request_timed_out(&mut self, slot: u32) {
        self.counters.requests_timed_out += 1;
        self.close(slot);
    }

    /// Refuses the current request; the connection ends behind the refusal.
    pub(super) fn reject(&mut self, now: Time, slot: u32, rejection: &Rejection, head_only: bool) {
        self.counters.rejected += 1;
        self.emit(|_| Event::Rejected { status: rejection.status, error: rejection.error.to_string() });
        self.conns.at(slot).buffer = Vec::new();
        let payload = Payload::Shared(Arc::new(response::rejection(rejection, head_only)));
        self.respond(now, slot, payload, true);
    }

    pub(super) fn reject_dispatch(&mut self, now: Time, slot: u32, error: &JsonError) {
        self.counters.dispatches_rejected += 1;
        let rejection = Rejection { status: 400, error: error.to_string().into(), allow: None };
        self.reject(now, slot, &rejection, false);
    }

    /// Closes so that the peer can still read our last response: a plain close with unread bytes
    /// would send a reset, and the reset may overtake it (RFC 9112 section 9.6).
    pub(super) fn linger(&mut self, now: Time, slot: u32) {
        let id = self.conns.id(slot);
        let conn = self.conns.at(slot);
        if conn.peer_closed {
            return self.close(slot);
        }
        conn.state = State::Lingering;
        conn.buffer = Vec::new();
        self.recount(id);
        self.outputs.push_back(Output::HalfClose { conn: id });
        self.resume(slot);
        self.timers.arm(slot, now.plus_ms(self.settings.linger_ms));
    }
}

/// Whether the answer to this request must have no body (RFC 9110 section 9.3.2), whatever is wrong
/// with the rest of it.
fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}
