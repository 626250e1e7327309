//! Claim, confirm, release: one delivery attempt, from the write to the proof.
//!
//! ```text
//! Waiting --claim--> Claimed --proof--------------------> confirmed: the dispatch is answered true
//!                       |---- reset, FIN before the bytes, silence, unread
//!                       v
//!                    released: connection reset, next poll (at most attempts_max), else false
//! ```
//!
//! The proof depends on `--confirm`:
//! - `read`: the peer's FIN, no byte of ours unacknowledged, and no error. A Linux peer that closes with
//!   unread data sends a reset instead of a FIN. A peer that has already closed answers our data with a
//!   reset. So a clean FIN after our last byte means that the process read every byte. Our own FIN goes out
//!   with that byte, which makes closing the connection cheap.
//! - `ack`: the acknowledgement of the last byte (or the proof of `read`).
//! - `write`: our kernel took the bytes.
//!
//! A FIN with bytes unacknowledged proves nothing yet. A reset or an acknowledgement follows. No event
//! reports the acknowledgement, so the broker core probes at doubling intervals. The probe's answer also says
//! whether a FIN has arrived, because the FIN's event may be queued behind thousands of others.
//!
//! A released poll is reset, so that nothing unsent reaches a peer that recovers.

use super::Broker;
use super::connections::budget::Part;
use super::connections::{Claim, State};
use super::event::{AttemptEnd, AttemptEvent, DispatchId, Event};
use super::http::Persistence;
use super::io::{ConnId, Offer, Output, SendConfirm, Shared, TcpFacts};
use super::pools::PollState;
use super::settings::Confirm;
use super::time::Time;

/// The delay before the first probe of a connection that closed with bytes unacknowledged.
const FIRST_PROBE_US: u64 = 1_000;

impl<S: Shared> Broker<S> {
    /// Writes the run of `offer` to the matchable poll on `slot`.
    pub(super) fn claim(&mut self, now: Time, slot: u32, mut offer: Offer) {
        let State::Waiting(mut poll) = self.connections.get(slot).state else { return };
        self.index.remove(&self.shared, slot, poll.pool, PollState::Matchable);
        self.index.add(&self.shared, slot, poll.pool, PollState::Claimed);
        poll.state = PollState::Claimed;
        self.counters.attempts += 1;
        let match_us = now.us_since(offer.since);
        if match_us > 0 {
            self.watch.times.matching.record(match_us);
        }
        self.watch.times.waited.record(now.us_since(poll.since));
        self.counters.bytes_out += offer.payload.bytes().len() as u64;
        offer.attempts_left -= 1;
        let give_up_at = now.plus_ms(self.settings.ack_timeout_ms).min(offer.deadline);
        let payload = offer.payload.clone();
        // The pending dispatch counts the same bytes, but may end before the claim if its supervisor leaves.
        // Never refused: the bytes are in memory already.
        let _ = self.budget.hold(&self.shared, payload.bytes().len(), Part::All);
        let claim = Claim {
            poll,
            since: now,
            sent: false,
            closing: false,
            unacked_bytes: payload.bytes().len() as u64,
            give_up_at,
            read_until: now.plus_ms(self.settings.read_timeout_ms),
            probe_after_us: FIRST_PROBE_US,
            offer,
        };
        self.connections.get_mut(slot).state = State::Claimed(Box::new(claim));
        self.connections.arm(slot, give_up_at);
        let confirm = match self.settings.confirm {
            Confirm::Read => SendConfirm::Closed,
            Confirm::Ack => SendConfirm::Acked,
            Confirm::Write => SendConfirm::None,
        };
        let conn = self.connections.id(slot);
        self.outputs.push_back(Output::Send { conn, payload, confirm });
    }

    /// The kernel took the whole run.
    pub(super) fn run_sent(&mut self, now: Time, slot: u32) {
        let State::Claimed(claim) = &mut self.connections.get_mut(slot).state else { return };
        claim.sent = true;
        if self.settings.confirm == Confirm::Write {
            self.confirm(now, slot);
        }
    }

    pub(super) fn acked(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.connections.find(id) else { return };
        // An acknowledgement before the run was sent is for an earlier response.
        if let State::Claimed(claim) = &conn.state
            && claim.sent
            && self.settings.confirm == Confirm::Ack
        {
            self.confirm(now, id.slot);
        }
    }

    pub(super) fn claimed_peer_closed(&mut self, now: Time, slot: u32, facts: Option<TcpFacts>) {
        let State::Claimed(claim) = &mut self.connections.get_mut(slot).state else { return };
        let (true, Some(facts)) = (claim.sent, facts) else {
            // The peer sent its FIN before our last byte, so it cannot have read that byte.
            return self.release(now, slot, AttemptEnd::Reset);
        };
        claim.closing = true;
        self.evaluate_facts(now, slot, facts);
    }

    /// Decides an attempt from the kernel's view of its connection.
    pub(super) fn evaluate_facts(&mut self, now: Time, slot: u32, facts: TcpFacts) {
        let confirm = self.settings.confirm;
        let State::Claimed(claim) = &mut self.connections.get_mut(slot).state else { return };
        let all_acked = claim.sent && facts.unacked_bytes == 0;
        if all_acked && confirm == Confirm::Ack {
            // A later reset does not revoke the acknowledgement.
            return self.confirm(now, slot);
        }
        if !facts.alive {
            return self.release(now, slot, AttemptEnd::Reset);
        }
        claim.closing |= claim.sent && facts.fin;
        if all_acked && claim.closing {
            return self.confirm(now, slot);
        }
        if facts.unacked_bytes < claim.unacked_bytes {
            claim.unacked_bytes = facts.unacked_bytes;
            claim.give_up_at = now.plus_ms(self.settings.ack_timeout_ms);
            if !all_acked {
                // A long response is in progress: its reader is alive, so the read timeout starts again.
                claim.read_until = now.plus_ms(self.settings.read_timeout_ms);
            }
        }
        let (give_up_at, end) = if all_acked {
            (claim.read_until, AttemptEnd::ReadTimeout)
        } else {
            (claim.give_up_at, AttemptEnd::AckTimeout)
        };
        let give_up_at = give_up_at.min(claim.offer.deadline);
        if now >= give_up_at {
            return self.release(now, slot, end);
        }
        let mut next = give_up_at;
        if claim.closing {
            next = next.min(now.plus_us(claim.probe_after_us));
            // Each reported FIN doubles it too, because an engine may report the FIN repeatedly.
            claim.probe_after_us = claim.probe_after_us.saturating_mul(2);
        }
        self.connections.arm(slot, next);
    }

    /// The attempt's time is up, or a probe of a closing connection is due: requests facts, which decide the
    /// attempt.
    pub(super) fn claim_timer(&mut self, now: Time, slot: u32) {
        let conn = self.connections.id(slot);
        let State::Claimed(claim) = &self.connections.get(slot).state else { return };
        if now >= claim.offer.deadline {
            return self.release(now, slot, AttemptEnd::AckTimeout);
        }
        // The answer sets the timer again. Without an answer, the dispatch's deadline ends the attempt.
        let deadline = claim.offer.deadline;
        self.connections.arm(slot, deadline);
        self.outputs.push_back(Output::Probe { conn });
    }

    /// The run is delivered.
    fn confirm(&mut self, now: Time, slot: u32) {
        let state = std::mem::replace(&mut self.connections.get_mut(slot).state, State::Idle);
        let State::Claimed(claim) = state else { return };
        self.counters.attempts_confirmed += 1;
        self.watch.times.delivery.record(now.us_since(claim.since));
        self.emit_attempt(now, &claim, AttemptEnd::Confirmed);
        let Offer { home, ticket, attempts_left, .. } = claim.offer;
        self.drop_claim(slot, *claim);
        self.reply(now, home, ticket, true, attempts_left);
        if self.settings.confirm == Confirm::Read {
            self.close(slot);
        } else {
            if self.shutdown.is_some() {
                // The response did not announce the close, but the runner executes its run before it polls
                // again, and sees the close by then.
                self.connections.get_mut(slot).persistence = Persistence::Close;
            }
            self.finish_request(now, slot);
        }
    }

    /// The run was not delivered to this poll, and must never be: resets the connection and tries the next poll.
    pub(super) fn release(&mut self, now: Time, slot: u32, end: AttemptEnd) {
        let state = std::mem::replace(&mut self.connections.get_mut(slot).state, State::Idle);
        let State::Claimed(claim) = state else { return };
        match end {
            AttemptEnd::Reset => self.counters.attempts_reset += 1,
            AttemptEnd::AckTimeout => self.counters.attempts_ack_timeout += 1,
            AttemptEnd::ReadTimeout => self.counters.attempts_read_timeout += 1,
            AttemptEnd::Confirmed => {}
        }
        self.abort(slot);
        self.emit_attempt(now, &claim, end);
        self.offer_again(now, &claim);
        self.drop_claim(slot, *claim);
    }

    /// Passes the run of a released claim on: to the next poll of this worker, or back to the dispatch.
    fn offer_again(&mut self, now: Time, claim: &Claim) {
        let offer = &claim.offer;
        let here = offer.home == self.worker;
        if !here
            && offer.attempts_left > 0
            && now < offer.deadline
            && let Some(poll) = self.choose_poll(now, claim.poll.pool)
        {
            return self.claim(now, poll, offer.clone());
        }
        self.reply(now, offer.home, offer.ticket, false, offer.attempts_left);
    }

    fn emit_attempt(&mut self, now: Time, claim: &Claim, end: AttemptEnd) {
        let Offer { home, ticket, traced, .. } = claim.offer;
        if !(traced || self.settings.events) {
            return;
        }
        let event = AttemptEvent {
            dispatch: DispatchId { home, ticket },
            traced,
            key: self.index.pool(claim.poll.pool).key().clone(),
            node: self.index.node(claim.poll.node).into(),
            end,
            waited_us: claim.since.us_since(claim.poll.since),
            took_us: now.us_since(claim.since),
        };
        self.outputs.push_back(Output::Event(Event::Attempt(Box::new(event))));
    }

    /// Releases what a claim held.
    pub(super) fn drop_claim(&mut self, slot: u32, claim: Claim) {
        self.drop_poll(slot, &claim.poll);
        self.budget.release(&self.shared, claim.offer.payload.bytes().len());
        self.buffer_pool.recycle(claim.offer.payload);
    }
}
