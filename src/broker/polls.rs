//! Held polls: from their arrival to their end without a run.

use super::Broker;
use super::connections::{Poll, State};
use super::event::{Event, PollEnd};
use super::io::{Output, Shared, TcpFacts};
use super::pools::{KeyRef, PollState};
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Holds the poll on `slot`; offers it no run from `expires` on. The broker answers a poll only with a run. If
    /// it has no room for the poll, it closes the connection, which the runner survives.
    pub(super) fn hold_poll(&mut self, now: Time, slot: u32, key: KeyRef<'_>, node: &str, expires: Time) {
        if self.connections.get(slot).peer_closed {
            // The runner closed before the broker parsed this pipelined poll. No later fact would report
            // that.
            self.counters.polls_left += 1;
            return self.close(slot);
        }
        if self.shutdown.is_some() {
            self.counters.polls_closed += 1;
            return self.close(slot);
        }
        let Some(pool) = self.index.pin(key) else {
            self.counters.refused_keys += 1;
            return self.refuse_poll(slot);
        };
        if self.index.pool(pool).held() >= self.settings.polls_per_key_max {
            self.counters.refused_per_key += 1;
            self.index.unpin(pool);
            return self.refuse_poll(slot);
        }
        let Some(deployment) = self.index.hold_deployment(key.deployment) else {
            self.counters.refused_per_deployment += 1;
            self.index.unpin(pool);
            return self.refuse_poll(slot);
        };
        let state = match self.cordons.covers(key.deployment, node) {
            true => PollState::Cordoned,
            false => PollState::Matchable,
        };
        let node = self.index.hold_node(node);
        let settings = &self.settings;
        let offer_until = now.plus_ms(settings.connection_timeout_ms - settings.guard_ms).min(expires);
        let measured = settings.guard_ms == 0;
        let poll = Poll { pool, node, deployment, since: now, offer_until, state, measured };
        self.counters.polls += 1;
        self.index.add(&self.shared, slot, pool, state);
        self.connections.get_mut(slot).state = State::Waiting(poll);
        self.arm_poll_timer(slot);
        self.emit(|broker| Event::PollHeld {
            key: broker.index.pool(pool).key().clone(),
            node: broker.index.node(node).into(),
        });
    }

    /// Closes a poll at a limit. Its runner survives that and tries again later.
    #[cold]
    fn refuse_poll(&mut self, slot: u32) {
        self.counters.polls_closed += 1;
        self.close(slot);
    }

    /// Changes the state of the held poll on `slot`.
    pub(super) fn set_poll_state(&mut self, slot: u32, state: PollState) {
        let State::Waiting(poll) = &mut self.connections.get_mut(slot).state else { return };
        let before = std::mem::replace(&mut poll.state, state);
        let pool = poll.pool;
        self.index.remove(&self.shared, slot, pool, before);
        self.index.add(&self.shared, slot, pool, state);
    }

    /// Releases what an ended poll held.
    pub(super) fn drop_poll(&mut self, slot: u32, poll: &Poll) {
        self.index.remove(&self.shared, slot, poll.pool, poll.state);
        self.index.release(poll.pool, poll.node, poll.deployment);
    }

    /// Sets the timer of a held poll. A matchable poll has three deadlines in turn: to measure the round trip,
    /// to park the poll, to close it.
    pub(super) fn arm_poll_timer(&mut self, slot: u32) {
        let settings = &self.settings;
        let State::Waiting(poll) = &self.connections.get(slot).state else { return };
        let at = match poll.state {
            PollState::Matchable if !poll.measured => {
                // One guard before the guard begins: in time for the largest correction.
                let early = settings.connection_timeout_ms.saturating_sub(2 * settings.guard_ms);
                poll.since.plus_ms(early).min(poll.offer_until)
            }
            PollState::Matchable => poll.offer_until,
            _ => self.poll_expiry(poll),
        };
        self.connections.arm(slot, at);
    }

    /// When the broker closes a poll. After its connection timeout the runner has aborted it; one more guard
    /// gives the abort time to arrive.
    pub(super) fn poll_expiry(&self, poll: &Poll) -> Time {
        poll.since.plus_ms(self.settings.connection_timeout_ms + self.settings.guard_ms)
    }

    pub(super) fn poll_timer(&mut self, now: Time, slot: u32) {
        let conn = self.connections.id(slot);
        if self.shutdown.is_some() {
            return self.end_poll(now, slot, PollEnd::Closed);
        }
        let State::Waiting(poll) = &self.connections.get(slot).state else { return };
        if now >= self.poll_expiry(poll) {
            return self.end_poll(now, slot, PollEnd::Expired);
        }
        if poll.state == PollState::Matchable {
            if now >= poll.offer_until {
                self.counters.polls_guarded += 1;
                self.set_poll_state(slot, PollState::Parked);
            } else if !poll.measured {
                self.outputs.push_back(Output::Probe { conn });
                // The answer sets the timer again. Without an answer, the uncorrected guard applies.
                let offer_until = poll.offer_until;
                return self.connections.arm(slot, offer_until);
            }
        }
        self.arm_poll_timer(slot);
    }

    /// Corrects the guard by the round trip. The runner's abort timer started before the request was sent: up
    /// to one and a half round trips, including the connect. The run takes another half to arrive.
    pub(super) fn round_trip_measured(&mut self, slot: u32, facts: TcpFacts) {
        let guard_us = self.settings.guard_ms * 1_000;
        if let State::Waiting(poll) = &mut self.connections.get_mut(slot).state
            && !poll.measured
        {
            let correction_us = (2 * u64::from(facts.rtt_us)).min(guard_us);
            poll.measured = true;
            poll.offer_until = Time(poll.offer_until.0.saturating_sub(correction_us));
        }
        self.arm_poll_timer(slot);
    }

    /// Ends a held poll without a run.
    pub(super) fn end_poll(&mut self, now: Time, slot: u32, end: PollEnd) {
        let State::Waiting(poll) = &self.connections.get(slot).state else { return };
        let Poll { pool, since, node, .. } = *poll;
        match end {
            PollEnd::Left => self.counters.polls_left += 1,
            PollEnd::Expired => self.counters.polls_expired += 1,
            PollEnd::Closed => self.counters.polls_closed += 1,
        }
        self.emit(|broker| Event::PollEnded {
            key: broker.index.pool(pool).key().clone(),
            node: broker.index.node(node).into(),
            end,
            held_us: now.us_since(since),
        });
        self.close(slot);
    }

    /// The slots of the held polls whose deployment and node `is_wanted` accepts, except claimed polls.
    pub(super) fn unclaimed_polls(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Vec<u32> {
        self.connections
            .iter()
            .filter(|(_, conn)| match &conn.state {
                State::Waiting(poll) => {
                    let key = self.index.pool(poll.pool).key_ref();
                    is_wanted(key.deployment, self.index.node(poll.node))
                }
                _ => false,
            })
            .map(|(slot, _)| slot)
            .collect()
    }
}
