//! Parses bytes into requests, one request at a time per connection.
//!
//! A request that arrives complete is parsed in the engine's buffer. The bytes of an incomplete request, and
//! those pipelined behind a request that is not answered yet, are copied to the connection's own buffer.

use super::Broker;
use super::connections::State;
use super::contract::{self, RequestHead, Route};
use super::event::Event;
use super::http::{
    Framing, HeadScanner, Method, Persistence, Rejection, leading_crlf, options_response, read_head,
    rejection_response,
};
use super::io::{ConnId, Output, Payload, Shared};
use super::time::Time;
use std::sync::Arc;

/// Empty lines allowed before a request line (RFC 9112 section 2.2), in bytes.
const LEADING_CRLF_BYTES_MAX: usize = 8;

impl<S: Shared> Broker<S> {
    pub(super) fn received(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.connections.find(id) else { return };
        self.counters.bytes_in += bytes.len() as u64;
        match conn.state {
            State::Fresh { .. } => {
                self.connections.end_silence(id.slot);
                self.connections.get_mut(id.slot).state = State::Idle;
                self.parse_received(now, id, bytes);
            }
            State::Idle | State::Head(_) | State::Body(_) => self.parse_received(now, id, bytes),
            State::Writing { refused: true } | State::Lingering | State::Free => {}
            _ => self.buffer_bytes(id.slot, bytes),
        }
        self.limit_bytes(now, id);
    }

    /// Parses `bytes`, which follow those in the buffer.
    fn parse_received(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let conn = self.connections.get_mut(id.slot);
        if conn.buffer.is_empty() {
            let used = self.parse_requests(now, id, bytes);
            if used < bytes.len() {
                self.buffer_bytes(id.slot, &bytes[used..]);
            }
        } else {
            conn.buffer.extend_from_slice(bytes);
            self.parse_buffer(now, id);
        }
    }

    pub(super) fn parse_buffer(&mut self, now: Time, id: ConnId) {
        let buffer = std::mem::take(&mut self.connections.get_mut(id.slot).buffer);
        let used = self.parse_requests(now, id, &buffer);
        if used == buffer.len() {
            return;
        }
        // Parsing never adds to the buffer, so this overwrites nothing.
        self.connections.get_mut(id.slot).buffer = if used == 0 { buffer } else { buffer[used..].to_vec() };
    }

    /// Buffers bytes that cannot be used yet. Pauses reading at the limit.
    fn buffer_bytes(&mut self, slot: u32, bytes: &[u8]) {
        let pipeline_bytes_max = self.settings.pipeline_bytes_max;
        let id = self.connections.id(slot);
        let conn = self.connections.get_mut(slot);
        conn.buffer.extend_from_slice(bytes);
        let parsing = matches!(conn.state, State::Head(_) | State::Body(_));
        if !parsing && !conn.paused && conn.buffer.len() >= pipeline_bytes_max {
            conn.paused = true;
            self.outputs.push_back(Output::Pause { conn: id });
        }
    }

    /// Reads from the connection again, if reading is paused.
    pub(super) fn resume(&mut self, slot: u32) {
        let id = self.connections.id(slot);
        let conn = self.connections.get_mut(slot);
        if conn.paused {
            conn.paused = false;
            self.outputs.push_back(Output::Resume { conn: id });
        }
    }

    /// Handles requests until one has to wait or bytes are missing. Returns how many bytes were used: all of
    /// them if the connection has ended.
    fn parse_requests(&mut self, now: Time, id: ConnId, input: &[u8]) -> usize {
        let mut used = 0;
        let mut begun = false;
        loop {
            let Some(conn) = self.connections.find(id) else { return input.len() };
            let mut rest = &input[used..];
            let mut scanner = match &conn.state {
                State::Idle if !rest.is_empty() => {
                    let empty_lines_len = leading_crlf(rest);
                    if empty_lines_len <= LEADING_CRLF_BYTES_MAX
                        && matches!(rest[empty_lines_len..], [] | [b'\r'])
                    {
                        // No request yet, and more empty lines may follow. They are counted together, so that
                        // fragmentation makes no difference.
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
                    used += self.receive_body(now, id.slot, rest);
                    continue;
                }
                State::Writing { refused: true } | State::Lingering => return input.len(),
                _ => break,
            };
            // By reference: a head is too large to be copied out of the result.
            match &read_head(&mut scanner, rest, self.settings.head_bytes_max) {
                Ok(Some((head, len))) => {
                    let (head_bytes, following) = rest.split_at(*len);
                    conn.state = State::Idle;
                    conn.request = conn.request.wrapping_add(1);
                    used += len + self.begin_request(now, id.slot, head, head_bytes, following);
                }
                Ok(None) => {
                    conn.state = State::Head(scanner);
                    break;
                }
                Err(rejection) => self.reject(now, id.slot, rejection, is_head(rest)),
            }
        }
        if begun && self.connections.get(id.slot).state.is_incomplete_request() {
            self.connections.arm(id.slot, now.plus_ms(self.settings.request_timeout_ms));
        }
        used
    }

    /// Handles a request whose head is complete. Returns how many of the bytes `following` the head were
    /// used, as the body.
    fn begin_request(
        &mut self,
        now: Time,
        slot: u32,
        head: &RequestHead<'_>,
        head_bytes: &[u8],
        following: &[u8],
    ) -> usize {
        let conn = self.connections.get_mut(slot);
        conn.persistence = if self.shutdown.is_some() { Persistence::Close } else { head.persistence() };
        let result = match contract::route(head, conn.side, self.settings.dispatch_on_runner_side) {
            Ok(Route::Dispatch) => self.begin_dispatch(now, slot, head, head_bytes, following),
            Ok(route) => self.handle_without_body(now, slot, route, head),
            Err(rejection) => Err(rejection),
        };
        match result {
            Ok(used) => used,
            Err(rejection) => {
                self.reject(now, slot, &rejection, head.method == Method::Head);
                0
            }
        }
    }

    /// Handles a request that has no body. Returns 0: it uses no bytes of a body.
    fn handle_without_body(
        &mut self,
        now: Time,
        slot: u32,
        route: Route,
        head: &RequestHead<'_>,
    ) -> Result<usize, Rejection> {
        if !matches!(head.framing, Framing::None | Framing::Length(0)) {
            // RFC 9110 section 9.3.1: content in a GET has no meaning, and a server may refuse it.
            return Err(Rejection::new(400, "this request must not have a body"));
        }
        let persistence = self.connections.get(slot).persistence;
        match route {
            Route::Poll => {
                let poll = contract::read_poll(head)?;
                self.admit_poll(now, slot, &poll)?;
            }
            Route::Connect => {
                self.counters.connects += 1;
                let response = self.connect_responses.get(persistence, head.method == Method::Head);
                let payload = Payload::Shared(Arc::new(response.into()));
                self.respond(now, slot, payload, false);
            }
            Route::Options(allow) => {
                let payload = Payload::Shared(Arc::new(options_response(allow, persistence)));
                self.respond(now, slot, payload, false);
            }
            Route::Dispatch => {}
        }
        Ok(0)
    }

    /// The response has been written or confirmed: continues with the next request, or ends the connection.
    pub(super) fn finish_request(&mut self, now: Time, slot: u32) {
        let id = self.connections.id(slot);
        let conn = self.connections.get_mut(slot);
        if conn.persistence == Persistence::Close {
            return if conn.buffer.is_empty() { self.close(slot) } else { self.linger(now, slot) };
        }
        conn.state = State::Idle;
        if !conn.buffer.is_empty() {
            self.parse_buffer(now, id);
            let Some(conn) = self.connections.find(id) else { return };
            // An incomplete request needs its remaining bytes, however many are buffered.
            if conn.state.is_incomplete_request() || conn.buffer.len() < self.settings.pipeline_bytes_max {
                self.resume(slot);
            }
        }
        self.limit_bytes(now, id);
        let Some(conn) = self.connections.find(id) else { return };
        let between = matches!(conn.state, State::Idle) || conn.state.is_incomplete_request();
        if between && conn.peer_closed {
            return self.close(slot);
        }
        if matches!(conn.state, State::Idle) {
            self.connections.arm(slot, now.plus_ms(self.settings.idle_timeout_ms));
        }
    }

    /// A request took too long to arrive. Closes without an answer: the request may be part of a poll, and a
    /// runner survives a close, but not a 408.
    pub(super) fn request_timed_out(&mut self, slot: u32) {
        self.counters.requests_timed_out += 1;
        self.close(slot);
    }

    /// Refuses the current request. The connection ends after the refusal.
    pub(super) fn reject(&mut self, now: Time, slot: u32, rejection: &Rejection, head_only: bool) {
        self.counters.rejected += 1;
        self.emit(|_| Event::Rejected { status: rejection.status, error: rejection.error.to_string() });
        self.connections.get_mut(slot).buffer = Vec::new();
        let payload = Payload::Shared(Arc::new(rejection_response(rejection, head_only)));
        self.respond(now, slot, payload, true);
    }
}

/// Whether the response to this request, malformed or not, must have no body (RFC 9110 section 9.3.2).
fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}
