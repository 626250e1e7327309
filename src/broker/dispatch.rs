//! A dispatch's way: here, on another worker, or nowhere.
//!
//! ```text
//! dispatch -> seek: a local poll?      -> claim (delivery.rs) -> confirmed -> true
//!                   a worker with a hint? -> Offer -> that worker claims -> Verdict -> true, or seek on
//!                   neither             -> false
//! ```
//!
//! Invariants: every dispatch is answered exactly once, within the dispatch timeout; at most
//! `attempts_max` polls are claimed for it, one at a time, on whichever workers.

use super::Broker;
use super::budget::Part;
use super::conn::{PendingDispatch, State};
use super::event::{self, ColdReason, DispatchEvent, DispatchId, Event, Origin, Outcome};
use super::http::response::{self, Persistence};
use super::io::{MeshMessage, Offer, Output, Payload, Shared, Ticket, WorkerSet};
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
        if self.shutdown.is_some() {
            return self.answer_cold(now, slot, None, ColdReason::ShuttingDown, origin);
        }
        let Some(pool) = self.pools.pin(dispatch.key()) else {
            return self.answer_cold(now, slot, None, ColdReason::KeyLimit, origin);
        };
        if self.choose_poll(now, pool).is_none() && self.other_holders(pool).0 == 0 {
            let reason = self.cold_reason(pool);
            self.answer_cold(now, slot, Some(pool), reason, origin);
            return self.pools.unpin(pool);
        }
        let payload = self.run_response(dispatch.message);
        if !self.budget.hold(&self.shared, payload.bytes().len(), Part::All) {
            self.budget.release(&self.shared, payload.bytes().len());
            self.counters.refused_bytes += 1;
            self.answer_cold(now, slot, Some(pool), ColdReason::BytesLimit, origin);
            return self.pools.unpin(pool);
        }
        let pending = PendingDispatch {
            pool,
            payload,
            since: now,
            deadline: now.plus_ms(self.settings.dispatch_timeout_ms),
            attempts_left: self.settings.attempts_max,
            tried: WorkerSet::default().with(self.worker),
            attempted: false,
            origin,
        };
        self.timers.arm(slot, pending.deadline);
        self.pending_dispatches += 1;
        self.conns.at(slot).state = State::Dispatch(Box::new(pending));
        self.seek(now, slot);
    }

    /// Finds the dispatch on `slot` its next poll, or answers false.
    fn seek(&mut self, now: Time, slot: u32) {
        let ticket = Ticket { conn: self.conns.id(slot), request: self.conns.peek(slot).request };
        let State::Dispatch(pending) = &mut self.conns.at(slot).state else { return };
        let pool = pending.pool;
        if pending.attempts_left == 0 || now >= pending.deadline {
            return self.answer(now, slot, Outcome::Unconfirmed);
        }
        let offer = Offer {
            home: self.worker,
            ticket,
            payload: pending.payload.clone(),
            attempts_left: pending.attempts_left,
            since: pending.since,
            deadline: pending.deadline,
            traced: pending.origin.as_ref().is_some_and(|origin| origin.traced),
        };
        let tried = pending.tried;
        if let Some(poll) = self.choose_poll(now, pool) {
            return self.claim(now, poll, offer);
        }
        let Some(worker) = self.other_holders(pool).minus(tried).next_after(self.worker) else {
            let State::Dispatch(pending) = &self.conns.peek(slot).state else { return };
            let end = match pending.attempted {
                true => Outcome::Unconfirmed,
                false => Outcome::Cold(self.cold_reason(pool)),
            };
            return self.answer(now, slot, end);
        };
        let key = self.pools.get(pool).key().clone();
        if let State::Dispatch(pending) = &mut self.conns.at(slot).state {
            pending.tried = tried.with(worker);
        }
        self.counters.offers_sent += 1;
        self.outputs.push_back(Output::Mesh { to: worker, message: MeshMessage::Offer { key, offer } });
    }

    /// Another core offers a run.
    pub(super) fn offered(&mut self, now: Time, from: usize, key: &Key, offer: Offer) {
        let open = self.shutdown.is_none() && now < offer.deadline && offer.attempts_left > 0;
        let pool = if open { self.pools.pin(key.as_ref()) } else { None };
        let poll = pool.and_then(|pool| self.choose_poll(now, pool));
        match poll {
            Some(poll) => self.claim(now, poll, offer),
            None => self.send_reply(from, offer.ticket, false, offer.attempts_left),
        }
        if let Some(pool) = pool {
            self.pools.unpin(pool);
        }
    }

    /// A claim has ended: tell the dispatch, wherever it is.
    pub(super) fn settle(&mut self, now: Time, home: usize, ticket: Ticket, delivered: bool, left: u8) {
        if home == self.worker {
            self.attempts_ended(now, ticket, delivered, left);
        } else {
            self.send_reply(home, ticket, delivered, left);
        }
    }

    fn send_reply(&mut self, to: usize, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let message = MeshMessage::Reply { ticket, delivered, attempts_left };
        self.outputs.push_back(Output::Mesh { to, message });
    }

    pub(super) fn reply_received(
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
        self.attempts_ended(now, ticket, delivered, left);
    }

    /// A claim for `ticket` has ended. A ticket that is not awaited any more was answered already.
    fn attempts_ended(&mut self, now: Time, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let Some(conn) = self.conns.get(ticket.conn) else { return };
        if conn.request != ticket.request {
            return;
        }
        let State::Dispatch(pending) = &mut conn.state else { return };
        pending.attempted |= attempts_left < pending.attempts_left;
        pending.attempts_left = attempts_left;
        if delivered {
            self.answer(now, ticket.conn.slot, Outcome::Warm);
        } else {
            self.seek(now, ticket.conn.slot);
        }
    }

    pub(super) fn dispatch_timer(&mut self, now: Time, slot: u32) {
        self.answer(now, slot, Outcome::Unconfirmed);
    }

    fn answer(&mut self, now: Time, slot: u32, end: Outcome) {
        let state = std::mem::replace(&mut self.conns.at(slot).state, State::Idle);
        let State::Dispatch(mut pending) = state else { return };
        if let Some(origin) = pending.origin.take() {
            let attempts = self.settings.attempts_max - pending.attempts_left;
            self.tell(slot, Some(pending.pool), end, now.us_since(pending.since), attempts, *origin);
        }
        self.conclude(now, slot, Some(pending.pool), end);
        self.drop_dispatch(*pending);
    }

    /// Gives back what a dispatch held while it waited.
    pub(super) fn drop_dispatch(&mut self, pending: PendingDispatch) {
        self.pending_dispatches -= 1;
        self.budget.release(&self.shared, pending.payload.bytes().len());
        self.pools.unpin(pending.pool);
        self.buffer_pool.give(pending.payload);
    }

    /// Answers a dispatch that never got as far as waiting for a pending.
    fn answer_cold(
        &mut self,
        now: Time,
        slot: u32,
        pool: Option<PoolId>,
        reason: ColdReason,
        origin: Option<Box<Origin>>,
    ) {
        let end = Outcome::Cold(reason);
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
        end: Outcome,
        took_us: u64,
        attempts: u8,
        origin: Origin,
    ) {
        let ticket = Ticket { conn: self.conns.id(slot), request: self.conns.peek(slot).request };
        let id = DispatchId { home: self.worker, ticket };
        let key = pool.map(|pool| self.pools.get(pool).key().clone());
        let event = DispatchEvent { id, key, end, took_us, attempts, origin };
        self.outputs.push_back(Output::Event(Event::Dispatch(Box::new(event))));
    }

    fn conclude(&mut self, now: Time, slot: u32, pool: Option<PoolId>, end: Outcome) {
        let hit = end == Outcome::Warm;
        match end {
            Outcome::Warm => self.counters.warm += 1,
            Outcome::Unconfirmed => self.counters.unconfirmed += 1,
            Outcome::Cold(reason) => *self.missed(reason) += 1,
        }
        if let Some(pool) = pool {
            let pool = self.pools.get_mut(pool);
            pool.warm += u64::from(hit);
            pool.cold += u64::from(!hit);
        }
        if self.shutdown.is_some() {
            // Asked before the drain, perhaps: its supervisor learns now that it must go elsewhere.
            self.conns.at(slot).persistence = Persistence::Close;
        }
        let persistence = self.conns.peek(slot).persistence;
        let answer = response::dispatch_answer(hit, persistence);
        self.respond(now, slot, Payload::Static(answer), false);
    }

    /// The poll that the next run of this pool goes to.
    pub(super) fn choose_poll(&self, now: Time, pool: PoolId) -> Option<u32> {
        self.pools.choose(
            pool,
            self.settings.match_order,
            |slot| matches!(&self.conns.peek(slot).state, State::Waiting(poll) if now < poll.offer_until),
        )
    }

    fn other_holders(&self, pool: PoolId) -> WorkerSet {
        self.shared.holders(self.bucket(pool)).without(self.worker)
    }

    /// The whole response for a runner: head and message in one piece, so that one write sends it
    /// and every further attempt shares it.
    fn run_response(&mut self, message: &[u8]) -> Payload {
        self.buffer_pool.fill(|buffer| {
            response::run_head(buffer, message.len(), self.settings.confirm == Confirm::Read);
            buffer.extend_from_slice(message);
        })
    }
}
