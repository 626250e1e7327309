//! A dispatch's way: here, on another core, or nowhere.
//!
//! ```text
//! dispatch -> seek: a local poll?      -> claim (delivery.rs) -> confirmed -> true
//!                   a core with a hint? -> Offer -> that core claims -> Verdict -> true, or seek on
//!                   neither             -> false
//! ```
//!
//! Invariants: every dispatch is answered exactly once, within the dispatch timeout; at most
//! `attempts_max` polls are claimed for it, one at a time, on whichever cores.

use super::Broker;
use super::budget::Part;
use super::conn::{State, Verdict};
use super::event::{self, DispatchEnd, DispatchEvent, DispatchId, Event, MissReason, Origin};
use super::http::response::{self, Persistence};
use super::io::{CoreSet, MeshMessage, Offer, Output, Payload, Shared, Ticket};
use super::json;
use super::key::Key;
use super::pool::PoolId;
use super::report::Allowance;
use super::settings::Confirm;
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// A dispatch's body is complete: match it.
    pub(super) fn dispatch(&mut self, now: Time, slot: u32, body: &[u8]) {
        let dispatch = match json::parse_dispatch(body) {
            Ok(dispatch) => dispatch,
            Err(error) => return self.reject_dispatch(now, slot, &error),
        };
        let origin = match self.tells_of_dispatches() {
            true => self.origin(dispatch.run_id.as_deref()),
            false => {
                self.counters.dispatches_untraced += u64::from(self.traces);
                None
            }
        };
        if self.drain.is_some() {
            return self.answer_unplaced(now, slot, None, MissReason::Draining, origin);
        }
        let Some(pool) = self.pools.pin(dispatch.key()) else {
            return self.answer_unplaced(now, slot, None, MissReason::KeyLimit, origin);
        };
        if self.choose_poll(now, pool).is_none() && self.other_holders(pool).0 == 0 {
            let reason = self.miss_reason(pool);
            self.answer_unplaced(now, slot, Some(pool), reason, origin);
            return self.pools.unpin(pool);
        }
        let payload = self.run_response(dispatch.message);
        if !self.budget.hold(&self.shared, payload.bytes().len(), Part::All) {
            self.budget.release(&self.shared, payload.bytes().len());
            self.counters.refused_bytes += 1;
            self.answer_unplaced(now, slot, Some(pool), MissReason::BytesLimit, origin);
            return self.pools.unpin(pool);
        }
        let verdict = Verdict {
            pool,
            payload,
            since: now,
            deadline: now.plus_ms(self.settings.dispatch_timeout_ms),
            attempts_left: self.settings.attempts_max,
            tried: CoreSet::default().with(self.core),
            attempted: false,
            origin,
        };
        self.timers.arm(slot, verdict.deadline);
        self.verdicts += 1;
        self.conns.at(slot).state = State::Verdict(Box::new(verdict));
        self.seek(now, slot);
    }

    /// Finds the dispatch on `slot` its next poll, or answers false.
    fn seek(&mut self, now: Time, slot: u32) {
        let ticket = Ticket { conn: self.conns.id(slot), request: self.conns.peek(slot).request };
        let State::Verdict(verdict) = &mut self.conns.at(slot).state else { return };
        let pool = verdict.pool;
        if verdict.attempts_left == 0 || now >= verdict.deadline {
            return self.answer(now, slot, DispatchEnd::Unconfirmed);
        }
        let offer = Offer {
            home: self.core,
            ticket,
            payload: verdict.payload.clone(),
            attempts_left: verdict.attempts_left,
            since: verdict.since,
            deadline: verdict.deadline,
            traced: verdict.origin.as_ref().is_some_and(|origin| origin.traced),
        };
        let tried = verdict.tried;
        if let Some(poll) = self.choose_poll(now, pool) {
            return self.claim(now, poll, offer);
        }
        let Some(core) = self.other_holders(pool).minus(tried).next_after(self.core) else {
            let State::Verdict(verdict) = &self.conns.peek(slot).state else { return };
            let end = match verdict.attempted {
                true => DispatchEnd::Unconfirmed,
                false => DispatchEnd::Missed(self.miss_reason(pool)),
            };
            return self.answer(now, slot, end);
        };
        let key = self.pools.get(pool).key().clone();
        if let State::Verdict(verdict) = &mut self.conns.at(slot).state {
            verdict.tried = tried.with(core);
        }
        self.counters.offers_sent += 1;
        self.outputs.push_back(Output::Mesh { to: core, message: MeshMessage::Offer { key, offer } });
    }

    /// Another core offers a run.
    pub(super) fn offered(&mut self, now: Time, from: usize, key: &Key, offer: Offer) {
        let open = self.drain.is_none() && now < offer.deadline && offer.attempts_left > 0;
        let pool = if open { self.pools.pin(key.as_ref()) } else { None };
        let poll = pool.and_then(|pool| self.choose_poll(now, pool));
        match poll {
            Some(poll) => self.claim(now, poll, offer),
            None => self.send_verdict(from, offer.ticket, false, offer.attempts_left),
        }
        if let Some(pool) = pool {
            self.pools.unpin(pool);
        }
    }

    /// A claim has ended: tell the dispatch, wherever it is.
    pub(super) fn settle(&mut self, now: Time, home: usize, ticket: Ticket, delivered: bool, left: u8) {
        if home == self.core {
            self.verdict(now, ticket, delivered, left);
        } else {
            self.send_verdict(home, ticket, delivered, left);
        }
    }

    fn send_verdict(&mut self, to: usize, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let message = MeshMessage::Verdict { ticket, delivered, attempts_left };
        self.outputs.push_back(Output::Mesh { to, message });
    }

    pub(super) fn verdict_came(
        &mut self,
        now: Time,
        _from: usize,
        ticket: Ticket,
        delivered: bool,
        left: u8,
    ) {
        if !delivered {
            self.counters.offers_returned += 1;
        }
        self.verdict(now, ticket, delivered, left);
    }

    /// A claim for `ticket` has ended. A ticket that is not awaited any more was answered already.
    fn verdict(&mut self, now: Time, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let Some(conn) = self.conns.get(ticket.conn) else { return };
        if conn.request != ticket.request {
            return;
        }
        let State::Verdict(verdict) = &mut conn.state else { return };
        verdict.attempted |= attempts_left < verdict.attempts_left;
        verdict.attempts_left = attempts_left;
        if delivered {
            self.answer(now, ticket.conn.slot, DispatchEnd::Hit);
        } else {
            self.seek(now, ticket.conn.slot);
        }
    }

    pub(super) fn verdict_timer(&mut self, now: Time, slot: u32) {
        self.answer(now, slot, DispatchEnd::Unconfirmed);
    }

    fn answer(&mut self, now: Time, slot: u32, end: DispatchEnd) {
        let state = std::mem::replace(&mut self.conns.at(slot).state, State::Idle);
        let State::Verdict(mut verdict) = state else { return };
        if let Some(origin) = verdict.origin.take() {
            let attempts = self.settings.attempts_max - verdict.attempts_left;
            self.tell(slot, Some(verdict.pool), end, now.us_since(verdict.since), attempts, *origin);
        }
        self.conclude(now, slot, Some(verdict.pool), end);
        self.drop_verdict(*verdict);
    }

    /// Gives back what a dispatch held while it waited.
    pub(super) fn drop_verdict(&mut self, verdict: Verdict) {
        self.verdicts -= 1;
        self.budget.release(&self.shared, verdict.payload.bytes().len());
        self.pools.unpin(verdict.pool);
        self.spares.give(verdict.payload);
    }

    /// Answers a dispatch that never got as far as waiting for a verdict.
    fn answer_unplaced(
        &mut self,
        now: Time,
        slot: u32,
        pool: Option<PoolId>,
        reason: MissReason,
        origin: Option<Box<Origin>>,
    ) {
        let end = DispatchEnd::Missed(reason);
        if let Some(origin) = origin {
            self.tell(slot, pool, end, 0, 0, *origin);
        }
        self.conclude(now, slot, pool, end);
    }

    /// Whose the dispatch is, if it may be told of: as one that is traced, or as any.
    #[cold]
    #[inline(never)]
    fn origin(&mut self, run_id: Option<&str>) -> Option<Box<Origin>> {
        let traceparent = self.traceparent.take();
        let sampled = self.traces && traceparent.as_deref().is_some_and(event::is_sampled);
        let Allowance { any, traced: traces } = &mut self.dispatch_events;
        let traced = sampled && *traces > 0;
        *traces -= u32::from(traced);
        self.counters.dispatches_untraced += u64::from(sampled && !traced);
        if *any == 0 && !traced {
            return None;
        }
        *any = any.saturating_sub(1);
        Some(Box::new(Origin { run: run_id.map(Box::from), traceparent, traced }))
    }

    /// Tells of a dispatch; somebody watches.
    #[cold]
    fn tell(
        &mut self,
        slot: u32,
        pool: Option<PoolId>,
        end: DispatchEnd,
        took_us: u64,
        attempts: u8,
        origin: Origin,
    ) {
        let ticket = Ticket { conn: self.conns.id(slot), request: self.conns.peek(slot).request };
        let id = DispatchId { home: self.core, ticket };
        let key = pool.map(|pool| self.pools.get(pool).key().clone());
        let event = DispatchEvent { id, key, end, took_us, attempts, origin };
        self.outputs.push_back(Output::Event(Event::Dispatch(Box::new(event))));
    }

    fn conclude(&mut self, now: Time, slot: u32, pool: Option<PoolId>, end: DispatchEnd) {
        let hit = end == DispatchEnd::Hit;
        match end {
            DispatchEnd::Hit => self.counters.hits += 1,
            DispatchEnd::Unconfirmed => self.counters.misses_unconfirmed += 1,
            DispatchEnd::Missed(reason) => *self.missed(reason) += 1,
        }
        if let Some(pool) = pool {
            let pool = self.pools.get_mut(pool);
            pool.hits += u64::from(hit);
            pool.misses += u64::from(!hit);
        }
        if self.drain.is_some() {
            // Asked before the drain, perhaps: its supervisor learns now that it must go elsewhere.
            self.conns.at(slot).persistence = Persistence::Close;
        }
        let persistence = self.conns.peek(slot).persistence;
        let verdict = response::verdict(hit, persistence);
        self.respond(now, slot, Payload::Static(verdict), false);
    }

    /// The poll that the next run of this pool goes to.
    pub(super) fn choose_poll(&self, now: Time, pool: PoolId) -> Option<u32> {
        self.pools.choose(
            pool,
            self.settings.match_order,
            |slot| matches!(&self.conns.peek(slot).state, State::Waiting(poll) if now < poll.offer_until),
        )
    }

    fn other_holders(&self, pool: PoolId) -> CoreSet {
        self.shared.holders(self.bucket(pool)).without(self.core)
    }

    /// The whole response for a runner: head and message in one piece, so that one write sends it
    /// and every further attempt shares it.
    fn run_response(&mut self, message: &[u8]) -> Payload {
        self.spares.fill(|buffer| {
            response::run_head(buffer, message.len(), self.settings.confirm == Confirm::Read);
            buffer.extend_from_slice(message);
        })
    }
}
