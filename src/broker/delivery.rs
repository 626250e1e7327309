//! Claim, confirm, release: one delivery attempt from the write to the proof.
//!
//! ```text
//! Waiting --claim--> Claimed --proof--------------------> confirmed: the dispatch is true
//!                       |---- reset, FIN before the bytes, silence, unread
//!                       v
//!                    released: connection reset, next poll (at most attempts_max), else false
//! ```
//!
//! Proof, by mode:
//! - `read`: the peer's FIN with nothing of ours unacknowledged and no error. A Linux peer that
//!   closes with unread data sends a reset instead, and one that had closed before answers our data
//!   with a reset; so a clean FIN after our last byte means that the process read every byte. Our own
//!   FIN goes with that byte, which makes the connection's end cheap.
//! - `ack`: the acknowledgement of the last byte (or the proof of `read`).
//! - `write`: our kernel took the bytes.
//!
//! A FIN with bytes unacknowledged proves nothing yet: the reset or the acknowledgement that
//! follows does, and no event announces the latter, so it is asked for at doubling intervals. Who is
//! asked says whether the FIN is there, for its event may be queued behind thousands of others.
//! Whatever is released is reset, so that nothing unsent reaches a revived peer.

use super::Broker;
use super::budget::Part;
use super::conn::{Claim, State};
use super::event::{AttemptEnd, AttemptEvent, DispatchId, Event};
use super::http::response::Persistence;
use super::io::{Offer, Output, SendConfirm, Shared, TcpFacts};
use super::settings::Confirm;
use super::time::Time;

/// First probe of a connection that closed with bytes unacknowledged.
const FIRST_PROBE_US: u64 = 1_000;

impl<S: Shared> Broker<S> {
    /// Writes `offer`'s run to the indexed poll on `slot`.
    pub(super) fn claim(&mut self, now: Time, slot: u32, mut offer: Offer) {
        self.unindex(slot);
        let State::Waiting(poll) = self.conns.peek(slot).state else { return };
        self.unmatchable -= 1;
        self.claimed += 1;
        self.counters.attempts += 1;
        let match_us = now.us_since(offer.since);
        if match_us > 0 {
            self.times.matching.record(match_us);
        }
        self.times.waited.record(now.us_since(poll.since));
        self.counters.bytes_out += offer.payload.bytes().len() as u64;
        self.pools.get_mut(poll.pool).claimed += 1;
        offer.attempts_left -= 1;
        let give_up_at = now.plus_ms(self.settings.ack_timeout_ms).min(offer.deadline);
        let payload = offer.payload.clone();
        // Counted with the dispatch too while that waits; here for when its supervisor has gone. Not
        // refused: it is in memory already.
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
        self.conns.at(slot).state = State::Claimed(Box::new(claim));
        self.timers.arm(slot, give_up_at);
        let confirm = match self.settings.confirm {
            Confirm::Read => SendConfirm::Closed,
            Confirm::Ack => SendConfirm::Acked,
            Confirm::Write => SendConfirm::None,
        };
        let conn = self.conns.id(slot);
        self.outputs.push_back(Output::Send { conn, payload, confirm });
    }

    pub(super) fn claimed_sent(&mut self, now: Time, slot: u32) {
        let State::Claimed(claim) = &mut self.conns.at(slot).state else { return };
        claim.sent = true;
        if self.settings.confirm == Confirm::Write {
            self.confirm(now, slot);
        }
    }

    pub(super) fn acked(&mut self, now: Time, id: super::io::ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        // What comes before its sending is of an earlier response.
        if let State::Claimed(claim) = &conn.state
            && claim.sent
            && self.settings.confirm == Confirm::Ack
        {
            self.confirm(now, id.slot);
        }
    }

    pub(super) fn claimed_peer_closed(&mut self, now: Time, slot: u32, facts: Option<TcpFacts>) {
        let State::Claimed(claim) = &mut self.conns.at(slot).state else { return };
        let (true, Some(facts)) = (claim.sent, facts) else {
            // The FIN was there before our last byte was: the peer can't have read it.
            return self.release(now, slot, AttemptEnd::Reset);
        };
        claim.closing = true;
        self.weigh(now, slot, facts);
    }

    pub(super) fn probed(&mut self, now: Time, id: super::io::ConnId, facts: TcpFacts) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.state {
            State::Waiting(_) => self.poll_measured(id.slot, facts),
            State::Claimed(_) => self.weigh(now, id.slot, facts),
            _ => {}
        }
    }

    /// Decides an attempt on what the kernel says of its connection.
    fn weigh(&mut self, now: Time, slot: u32, facts: TcpFacts) {
        let confirm = self.settings.confirm;
        let State::Claimed(claim) = &mut self.conns.at(slot).state else { return };
        let all_acked = claim.sent && facts.unacked_bytes == 0;
        if all_acked && confirm == Confirm::Ack {
            // A reset behind it takes nothing back.
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
                // A long response on its way: its reader is alive, its time to read starts anew.
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
            // Weighed as often as it is told of: an engine may say so again and again.
            claim.probe_after_us = claim.probe_after_us.saturating_mul(2);
        }
        self.timers.arm(slot, next);
    }

    /// Time is up, or a probe of a closing connection is due: ask the kernel, then decide.
    pub(super) fn claim_timer(&mut self, now: Time, slot: u32) {
        let conn = self.conns.id(slot);
        let State::Claimed(claim) = &self.conns.peek(slot).state else { return };
        if now >= claim.offer.deadline {
            return self.release(now, slot, AttemptEnd::AckTimeout);
        }
        // The answer re-arms; should none come, the dispatch's deadline ends the attempt.
        let deadline = claim.offer.deadline;
        self.timers.arm(slot, deadline);
        self.outputs.push_back(Output::Probe { conn });
    }

    /// The run is delivered.
    fn confirm(&mut self, now: Time, slot: u32) {
        let state = std::mem::replace(&mut self.conns.at(slot).state, State::Idle);
        let State::Claimed(claim) = state else { return };
        self.counters.attempts_confirmed += 1;
        self.times.delivery.record(now.us_since(claim.since));
        self.attempt_ended(now, &claim, AttemptEnd::Confirmed);
        let Offer { home, ticket, attempts_left, .. } = claim.offer;
        self.drop_claim(*claim);
        self.settle(now, home, ticket, true, attempts_left);
        if self.settings.confirm == Confirm::Read {
            self.close(slot);
        } else {
            if self.shutdown.is_some() {
                // Not announced, but its runner has a run to do: the end is there before its next poll.
                self.conns.at(slot).persistence = Persistence::Close;
            }
            self.request_done(now, slot);
        }
    }

    /// The run is not delivered to this poll, and must never be: reset it and go on to the next.
    pub(super) fn release(&mut self, now: Time, slot: u32, end: AttemptEnd) {
        let state = std::mem::replace(&mut self.conns.at(slot).state, State::Idle);
        let State::Claimed(claim) = state else { return };
        match end {
            AttemptEnd::Reset => self.counters.attempts_reset += 1,
            AttemptEnd::AckTimeout => self.counters.attempts_ack_timeout += 1,
            AttemptEnd::ReadTimeout => self.counters.attempts_read_timeout += 1,
            AttemptEnd::Confirmed => {}
        }
        self.abort(slot);
        self.attempt_ended(now, &claim, end);
        self.offer_on(now, &claim);
        self.drop_claim(*claim);
    }

    /// A claim that ended unconfirmed passes its run on: to this worker's next poll, or home.
    fn offer_on(&mut self, now: Time, claim: &Claim) {
        let offer = &claim.offer;
        let here = offer.home == self.worker;
        if !here
            && offer.attempts_left > 0
            && now < offer.deadline
            && let Some(poll) = self.choose_poll(now, claim.poll.pool)
        {
            return self.claim(now, poll, offer.clone());
        }
        self.settle(now, offer.home, offer.ticket, false, offer.attempts_left);
    }

    fn attempt_ended(&mut self, now: Time, claim: &Claim, end: AttemptEnd) {
        let Offer { home, ticket, traced, .. } = claim.offer;
        if !(traced || self.settings.events) {
            return;
        }
        let event = AttemptEvent {
            dispatch: DispatchId { home, ticket },
            traced,
            key: self.pools.get(claim.poll.pool).key().clone(),
            node: self.nodes.text(claim.poll.node).into(),
            end,
            waited_us: claim.since.us_since(claim.poll.since),
            took_us: now.us_since(claim.since),
        };
        self.outputs.push_back(Output::Event(Event::Attempt(Box::new(event))));
    }

    /// Gives back what a claim held.
    pub(super) fn drop_claim(&mut self, claim: Claim) {
        self.claimed -= 1;
        self.pools.get_mut(claim.poll.pool).claimed -= 1;
        self.budget.release(&self.shared, claim.offer.payload.bytes().len());
        self.drop_held(&claim.poll);
        self.buffer_pool.give(claim.offer.payload);
    }
}
