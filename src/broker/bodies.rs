//! The bodies of dispatches, as they arrive.

use super::Broker;
use super::connections::{Body, BodyFraming, State};
use super::contract::{self, RequestHead};
use super::http::{CONTINUE, ChunkedDecoder, Framing, Rejection};
use super::io::{ConnId, Output, Payload, SendConfirm, Shared};
use super::time::Time;

/// Reserved immediately for an announced body. More is reserved as the body arrives.
const BODY_RESERVE_BYTES_MAX: usize = 64 * 1024;

impl<S: Shared> Broker<S> {
    /// A dispatch's head is complete. Returns how many of the `following` bytes were used as the body.
    ///
    /// # Errors
    /// 403 if the address may not dispatch; 413 if the body is too long.
    pub(super) fn begin_dispatch(
        &mut self,
        now: Time,
        slot: u32,
        head: &RequestHead<'_>,
        head_bytes: &[u8],
        following: &[u8],
    ) -> Result<usize, Rejection> {
        let wanted = self.watch.wants_dispatches();
        let traceparent = if wanted { contract::traceparent_of(head_bytes) } else { None };
        let begun = self.begin_body(now, slot, head, following, traceparent);
        self.counters.dispatches_rejected += u64::from(begun.is_err());
        begun
    }

    fn begin_body(
        &mut self,
        now: Time,
        slot: u32,
        head: &RequestHead<'_>,
        following: &[u8],
        traceparent: Option<&str>,
    ) -> Result<usize, Rejection> {
        if !self.connections.get(slot).may_dispatch {
            self.counters.dispatches_forbidden += 1;
            return Err(Rejection::new(
                403,
                "this address may not dispatch: --dispatch-allow does not cover it",
            ));
        }
        let (received, framing) = match head.framing {
            Framing::Length(length) if length > self.settings.body_bytes_max as u64 => {
                return Err(Rejection::new(413, "the body is longer than this broker accepts"));
            }
            Framing::Length(length) if following.len() as u64 >= length => {
                let length = length as usize;
                self.dispatch(now, slot, &following[..length], traceparent);
                return Ok(length);
            }
            Framing::Length(length) => {
                let length = length as usize;
                (Vec::with_capacity(length.min(BODY_RESERVE_BYTES_MAX)), BodyFraming::Length(length))
            }
            _ => {
                let decoder = ChunkedDecoder::new(self.settings.head_bytes_max);
                (Vec::new(), BodyFraming::Chunked(decoder))
            }
        };
        let body = Box::new(Body { received, framing, traceparent: traceparent.map(Box::from) });
        if head.expect_continue && following.is_empty() {
            let conn = self.connections.id(slot);
            self.connections.get_mut(slot).state = State::Continue(body);
            let payload = Payload::Static(CONTINUE);
            self.outputs.push_back(Output::Send { conn, payload, confirm: SendConfirm::None });
        } else {
            self.connections.get_mut(slot).state = State::Body(body);
        }
        Ok(0)
    }

    /// More of a dispatch's body has arrived. Returns how many bytes of `input` belong to it.
    pub(super) fn receive_body(&mut self, now: Time, slot: u32, input: &[u8]) -> usize {
        let state = std::mem::replace(&mut self.connections.get_mut(slot).state, State::Idle);
        let State::Body(mut body) = state else { return 0 };
        let received = &mut body.received;
        let (used, done) = match &mut body.framing {
            BodyFraming::Length(length) => {
                let used = input.len().min(*length - received.len());
                if received.capacity() - received.len() < used {
                    // Doubles like a vector does, but never beyond the announced length.
                    let missing = *length - received.len();
                    received.reserve_exact(missing.min(received.len().max(used)));
                }
                received.extend_from_slice(&input[..used]);
                (used, received.len() == *length)
            }
            BodyFraming::Chunked(decoder) => {
                match decoder.advance(input, received, self.settings.body_bytes_max) {
                    Ok(progress) => progress,
                    Err(rejection) => {
                        self.reject_dispatch(now, slot, &rejection);
                        return 0;
                    }
                }
            }
        };
        if done {
            self.dispatch(now, slot, &body.received, body.traceparent.as_deref());
        } else {
            self.connections.get_mut(slot).state = State::Body(body);
        }
        used
    }

    /// The 100 (Continue) has been written, so the body may arrive.
    pub(super) fn continue_sent(&mut self, now: Time, id: ConnId) {
        let conn = self.connections.get_mut(id.slot);
        let state = std::mem::replace(&mut conn.state, State::Idle);
        let State::Continue(body) = state else { return };
        conn.state = State::Body(body);
        self.parse_buffer(now, id);
        self.resume(id.slot);
        self.limit_bytes(now, id);
    }

    pub(super) fn reject_dispatch(&mut self, now: Time, slot: u32, rejection: &Rejection) {
        self.counters.dispatches_rejected += 1;
        self.reject(now, slot, rejection, false);
    }
}
