//! A dispatch, from its body to its answer.
//!
//! ```text
//! dispatch -> offer_next: a local poll?       -> claim (delivery.rs) -> confirmed -> true
//!                         a worker with a hint? -> Offer -> that worker claims -> Reply -> true, or offer_next
//!                         neither             -> false
//! ```
//!
//! Invariants: every dispatch is answered exactly once, within the dispatch timeout. At most `attempts_max`
//! polls are claimed for it, one at a time, over all workers.

use super::Broker;
use super::connections::budget::Part;
use super::connections::{PendingDispatch, State};
use super::contract;
use super::event::{ColdReason, DispatchEvent, DispatchId, Event, Origin, Outcome};
use super::http::Persistence;
use super::io::{MeshMessage, Offer, Output, Payload, Shared, Ticket, WorkerSet};
use super::pools::{Key, PoolId};
use super::settings::Confirm;
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Handles a dispatch whose body is complete.
    pub(super) fn dispatch(&mut self, now: Time, slot: u32, body: &[u8], traceparent: Option<&str>) {
        let dispatch = match contract::parse_dispatch(body) {
            Ok(dispatch) => dispatch,
            Err(error) => return self.reject_dispatch(now, slot, &error.into()),
        };
        let untraced = &mut self.counters.dispatches_untraced;
        let origin = self.watch.origin(dispatch.run_id.as_deref(), traceparent, untraced);
        if self.shutdown.is_some() {
            return self.answer_cold(now, slot, None, ColdReason::ShuttingDown, origin);
        }
        let Some(pool) = self.index.pin(dispatch.key()) else {
            return self.answer_cold(now, slot, None, ColdReason::KeyLimit, origin);
        };
        if self.choose_poll(now, pool).is_none() && self.index.other_workers(&self.shared, pool).is_empty() {
            let reason = self.cold_reason(pool);
            self.answer_cold(now, slot, Some(pool), reason, origin);
            return self.index.unpin(pool);
        }
        let payload = self.run_response(dispatch.message);
        if !self.budget.hold(&self.shared, payload.bytes().len(), Part::All) {
            self.budget.release(&self.shared, payload.bytes().len());
            self.counters.refused_bytes += 1;
            self.answer_cold(now, slot, Some(pool), ColdReason::BytesLimit, origin);
            return self.index.unpin(pool);
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
        self.connections.arm(slot, pending.deadline);
        self.pending_dispatches += 1;
        self.connections.get_mut(slot).state = State::Dispatch(Box::new(pending));
        self.offer_next(now, slot);
    }

    /// Offers the run of the dispatch on `slot` to its next poll, here or on another worker. Answers false if
    /// there is none.
    fn offer_next(&mut self, now: Time, slot: u32) {
        let ticket = self.ticket(slot);
        let State::Dispatch(pending) = &mut self.connections.get_mut(slot).state else { return };
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
        let untried = self.index.other_workers(&self.shared, pool).minus(tried);
        let Some(worker) = untried.next_after(self.worker) else {
            let State::Dispatch(pending) = &self.connections.get(slot).state else { return };
            let outcome = match pending.attempted {
                true => Outcome::Unconfirmed,
                false => Outcome::Cold(self.cold_reason(pool)),
            };
            return self.answer(now, slot, outcome);
        };
        let key = self.index.pool(pool).key().clone();
        if let State::Dispatch(pending) = &mut self.connections.get_mut(slot).state {
            pending.tried = tried.with(worker);
        }
        self.counters.offers_sent += 1;
        self.outputs.push_back(Output::Mesh { to: worker, message: MeshMessage::Offer { key, offer } });
    }

    /// Another worker offers a run.
    pub(super) fn offer_received(&mut self, now: Time, from: usize, key: &Key, offer: Offer) {
        let open = self.shutdown.is_none() && now < offer.deadline && offer.attempts_left > 0;
        let pool = if open { self.index.pin(key.as_ref()) } else { None };
        let poll = pool.and_then(|pool| self.choose_poll(now, pool));
        match poll {
            Some(poll) => self.claim(now, poll, offer),
            None => self.send_reply(from, offer.ticket, false, offer.attempts_left),
        }
        if let Some(pool) = pool {
            self.index.unpin(pool);
        }
    }

    /// Replies to an offer, whose dispatch may be on this worker or on another.
    pub(super) fn reply(&mut self, now: Time, home: usize, ticket: Ticket, delivered: bool, left: u8) {
        if home == self.worker {
            self.handle_reply(now, ticket, delivered, left);
        } else {
            self.send_reply(home, ticket, delivered, left);
        }
    }

    fn send_reply(&mut self, to: usize, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let message = MeshMessage::Reply { ticket, delivered, attempts_left };
        self.outputs.push_back(Output::Mesh { to, message });
    }

    /// Another worker replies to an offer.
    pub(super) fn reply_received(&mut self, now: Time, ticket: Ticket, delivered: bool, left: u8) {
        if !delivered {
            self.counters.offers_returned += 1;
        }
        self.handle_reply(now, ticket, delivered, left);
    }

    /// Answers the dispatch or makes its next offer. Ignores a ticket whose dispatch was answered already.
    fn handle_reply(&mut self, now: Time, ticket: Ticket, delivered: bool, attempts_left: u8) {
        let Some(conn) = self.connections.find(ticket.conn) else { return };
        if conn.request != ticket.request {
            return;
        }
        let State::Dispatch(pending) = &mut conn.state else { return };
        pending.attempted |= attempts_left < pending.attempts_left;
        pending.attempts_left = attempts_left;
        if delivered {
            self.answer(now, ticket.conn.slot, Outcome::Warm);
        } else {
            self.offer_next(now, ticket.conn.slot);
        }
    }

    pub(super) fn dispatch_timer(&mut self, now: Time, slot: u32) {
        self.answer(now, slot, Outcome::Unconfirmed);
    }

    /// Answers the pending dispatch on `slot`.
    fn answer(&mut self, now: Time, slot: u32, outcome: Outcome) {
        let state = std::mem::replace(&mut self.connections.get_mut(slot).state, State::Idle);
        let State::Dispatch(mut pending) = state else { return };
        if let Some(origin) = pending.origin.take() {
            let attempts = self.settings.attempts_max - pending.attempts_left;
            let took_us = now.us_since(pending.since);
            self.emit_dispatch(slot, Some(pending.pool), outcome, took_us, attempts, *origin);
        }
        self.write_answer(now, slot, Some(pending.pool), outcome);
        self.drop_dispatch(*pending);
    }

    /// Answers a dispatch that never became pending.
    fn answer_cold(
        &mut self,
        now: Time,
        slot: u32,
        pool: Option<PoolId>,
        reason: ColdReason,
        origin: Option<Box<Origin>>,
    ) {
        let outcome = Outcome::Cold(reason);
        if let Some(origin) = origin {
            self.emit_dispatch(slot, pool, outcome, 0, 0, *origin);
        }
        self.write_answer(now, slot, pool, outcome);
    }

    /// Counts the outcome and writes the answer.
    fn write_answer(&mut self, now: Time, slot: u32, pool: Option<PoolId>, outcome: Outcome) {
        match outcome {
            Outcome::Warm => self.counters.warm += 1,
            Outcome::Unconfirmed => self.counters.unconfirmed += 1,
            Outcome::Cold(reason) => self.count_cold(reason),
        }
        if let Some(pool) = pool {
            let pool = self.index.pool_mut(pool);
            match outcome {
                Outcome::Warm => pool.warm += 1,
                Outcome::Unconfirmed => pool.unconfirmed += 1,
                Outcome::Cold(_) => pool.cold += 1,
            }
        }
        if self.shutdown.is_some() {
            // The request may have arrived before the shutdown. Its supervisor must reconnect elsewhere.
            self.connections.get_mut(slot).persistence = Persistence::Close;
        }
        let persistence = self.connections.get(slot).persistence;
        let answer = contract::dispatch_answer(outcome == Outcome::Warm, persistence);
        self.respond(now, slot, Payload::Static(answer), false);
    }

    /// Releases what a pending dispatch held.
    pub(super) fn drop_dispatch(&mut self, pending: PendingDispatch) {
        self.pending_dispatches -= 1;
        self.budget.release(&self.shared, pending.payload.bytes().len());
        self.index.unpin(pending.pool);
        self.buffer_pool.recycle(pending.payload);
    }

    #[cold]
    fn emit_dispatch(
        &mut self,
        slot: u32,
        pool: Option<PoolId>,
        outcome: Outcome,
        took_us: u64,
        attempts: u8,
        origin: Origin,
    ) {
        let id = DispatchId { home: self.worker, ticket: self.ticket(slot) };
        let key = pool.map(|pool| self.index.pool(pool).key().clone());
        let event = DispatchEvent { id, key, outcome, took_us, attempts, origin };
        self.outputs.push_back(Output::Event(Event::Dispatch(Box::new(event))));
    }

    /// The ticket of the current request on `slot`.
    fn ticket(&self, slot: u32) -> Ticket {
        Ticket { conn: self.connections.id(slot), request: self.connections.get(slot).request }
    }

    /// The poll that gets the next run of this pool.
    pub(super) fn choose_poll(&self, now: Time, pool: PoolId) -> Option<u32> {
        self.index.choose(
            pool,
            self.settings.match_order,
            |slot| matches!(&self.connections.get(slot).state, State::Waiting(poll) if now < poll.offer_until),
        )
    }

    /// The whole response for a runner. Head and message are in one buffer, so that one write sends them and
    /// further attempts share them.
    fn run_response(&mut self, message: &[u8]) -> Payload {
        let persistence = match self.settings.confirm {
            Confirm::Read => Persistence::Close,
            Confirm::Ack | Confirm::Write => Persistence::KeepAlive,
        };
        self.buffer_pool.fill(|buffer| {
            contract::run_head(buffer, message.len(), persistence);
            buffer.extend_from_slice(message);
        })
    }
}
