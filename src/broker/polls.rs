//! Held polls: into the index, out of it in their last moments, and closed when they are over.

use super::Broker;
use super::conn::{NO_NAME, Poll, State};
use super::event::{Event, PollEnd};
use super::io::{Output, Shared, TcpFacts};
use super::key::KeyRef;
use super::time::Time;

impl<S: Shared> Broker<S> {
    /// Holds the poll that `slot` just asked for. Never answered with anything but its run: where
    /// there is no room its connection is closed, which its runner survives.
    pub(super) fn hold_poll(&mut self, now: Time, slot: u32, key: KeyRef<'_>, node: &str) {
        if self.conns.peek(slot).peer_closed {
            // It had hung up before its turn came, and no further event would say so.
            self.counters.polls_left += 1;
            return self.close(slot);
        }
        if self.shutdown.is_some() {
            self.counters.polls_closed += 1;
            return self.close(slot);
        }
        let Some(pool) = self.pools.pin(key) else {
            self.counters.refused_keys += 1;
            return self.refuse_poll(slot);
        };
        if self.pools.get(pool).held() >= self.settings.polls_per_key_max {
            self.counters.refused_per_key += 1;
            self.pools.unpin(pool);
            return self.refuse_poll(slot);
        }
        let Some(deployment) = self.count_deployment(key.deployment) else {
            self.counters.refused_per_deployment += 1;
            self.pools.unpin(pool);
            return self.refuse_poll(slot);
        };
        let cordoned = self.cordons.cover(key.deployment, node);
        let node = self.nodes.hold(node);
        let settings = &self.settings;
        let poll = Poll {
            pool,
            node,
            deployment,
            since: now,
            offer_until: now.plus_ms(settings.connection_timeout_ms - settings.guard_ms),
            matchable: false,
            cordoned,
            measured: settings.guard_ms == 0,
        };
        self.counters.polls += 1;
        self.unmatchable += 1;
        self.conns.at(slot).state = State::Waiting(poll);
        if !cordoned {
            self.index(slot);
        } else {
            self.pools.get_mut(pool).cordoned += 1;
        }
        self.arm_poll(slot);
        self.emit(|broker| Event::PollHeld {
            key: broker.pools.get(pool).key().clone(),
            node: broker.nodes.text(node).into(),
        });
    }

    /// At a bound a poll is closed: its runner survives that, and tries again later.
    #[cold]
    fn refuse_poll(&mut self, slot: u32) {
        self.counters.polls_closed += 1;
        self.close(slot);
    }

    /// Counts one more held poll of a deployment, where that is bounded; `None` at the bound.
    fn count_deployment(&mut self, deployment: &str) -> Option<u32> {
        let polls_max = self.settings.polls_per_deployment_max;
        if polls_max == usize::MAX {
            return Some(NO_NAME);
        }
        let name = self.deployments.hold(deployment);
        if self.deployments.holds(name) <= polls_max {
            return Some(name);
        }
        self.deployments.release(name);
        None
    }

    /// Gives back what every held poll holds, claimed or not.
    pub(super) fn drop_held(&mut self, poll: &Poll) {
        self.pools.unpin(poll.pool);
        self.nodes.release(poll.node);
        if poll.deployment != NO_NAME {
            self.deployments.release(poll.deployment);
        }
    }

    /// Offers the poll in `slot`, if it is held, no run from `expires` on.
    pub(super) fn limit_poll(&mut self, slot: u32, expires: Time) {
        if let State::Waiting(poll) = &mut self.conns.at(slot).state
            && expires < poll.offer_until
        {
            poll.offer_until = expires;
            self.arm_poll(slot);
        }
    }

    /// Puts a parked poll into the index and tells the other workers.
    pub(super) fn index(&mut self, slot: u32) {
        let State::Waiting(poll) = &mut self.conns.at(slot).state else { return };
        poll.matchable = true;
        let pool = poll.pool;
        self.unmatchable -= 1;
        self.matchable += 1;
        if self.pools.wait(pool, slot) == 1 {
            self.announce_relations(pool);
        }
        let bucket = self.bucket(pool);
        self.bucket_counts[bucket] += 1;
        if self.bucket_counts[bucket] == 1 {
            self.shared.announce(bucket, self.worker);
        }
    }

    /// Takes an indexed poll out of the index; it stays held.
    pub(super) fn unindex(&mut self, slot: u32) {
        let State::Waiting(poll) = &mut self.conns.at(slot).state else { return };
        poll.matchable = false;
        let pool = poll.pool;
        self.unmatchable += 1;
        self.leave_index(slot, pool);
    }

    /// Parks a poll that will not be offered a run any more.
    pub(super) fn park(&mut self, slot: u32) {
        self.unindex(slot);
        if let State::Waiting(poll) = &self.conns.peek(slot).state {
            self.pools.get_mut(poll.pool).parked += 1;
        }
    }

    /// The index's side of a poll's leaving it.
    fn leave_index(&mut self, slot: u32, pool: super::pool::PoolId) {
        self.matchable -= 1;
        if self.pools.leave(pool, slot) == 0 {
            self.withdraw_relations(pool);
        }
        let bucket = self.bucket(pool);
        self.bucket_counts[bucket] -= 1;
        if self.bucket_counts[bucket] == 0 {
            self.shared.withdraw(bucket, self.worker);
        }
    }

    /// Gives back what a held poll held, when its connection is gone.
    pub(super) fn drop_poll(&mut self, slot: u32, poll: &Poll) {
        if poll.matchable {
            self.leave_index(slot, poll.pool);
        } else {
            self.unmatchable -= 1;
            let pool = self.pools.get_mut(poll.pool);
            let parked = if poll.cordoned { &mut pool.cordoned } else { &mut pool.parked };
            *parked -= 1;
        }
        self.drop_held(poll);
    }

    /// The hint bucket of a pool's key.
    pub(super) fn bucket(&self, pool: super::pool::PoolId) -> usize {
        self.bucket_of(self.pools.get(pool))
    }

    pub(super) fn bucket_of(&self, pool: &super::pool::Pool) -> usize {
        pool.hash() as usize & (self.shared.buckets() - 1)
    }

    /// A poll's timers in turn: measure its round trip, stop offering it, close it.
    pub(super) fn arm_poll(&mut self, slot: u32) {
        let settings = &self.settings;
        let State::Waiting(poll) = &self.conns.peek(slot).state else { return };
        let at = if poll.matchable && !poll.measured {
            // One guard earlier than the guard: in time for the largest correction.
            let early = settings.connection_timeout_ms.saturating_sub(2 * settings.guard_ms);
            poll.since.plus_ms(early).min(poll.offer_until)
        } else if poll.matchable {
            poll.offer_until
        } else {
            self.expiry(poll)
        };
        self.timers.arm(slot, at);
    }

    /// A poll older than the connection timeout is dead by definition. Its client's own abort is
    /// on the way; the guard once more leaves it the time to arrive.
    pub(super) fn expiry(&self, poll: &Poll) -> Time {
        poll.since.plus_ms(self.settings.connection_timeout_ms + self.settings.guard_ms)
    }

    pub(super) fn poll_timer(&mut self, now: Time, slot: u32) {
        let conn = self.conns.id(slot);
        if self.shutdown.is_some() {
            return self.end_poll(now, slot, PollEnd::Closed);
        }
        let State::Waiting(poll) = &self.conns.peek(slot).state else { return };
        if now >= self.expiry(poll) {
            return self.end_poll(now, slot, PollEnd::Expired);
        }
        if poll.matchable && now >= poll.offer_until {
            self.counters.polls_guarded += 1;
            self.park(slot);
        } else if poll.matchable && !poll.measured {
            self.outputs.push_back(Output::Probe { conn });
            // The answer re-arms; if none came, the guard holds without the correction.
            let offer_until = poll.offer_until;
            return self.timers.arm(slot, offer_until);
        }
        self.arm_poll(slot);
    }

    /// The round trip of a poll near its end: its client's abort timer started before the request
    /// was on the wire (up to one and a half round trips, with the connect), and the run needs
    /// another half to get there.
    pub(super) fn poll_measured(&mut self, slot: u32, facts: TcpFacts) {
        let guard_us = self.settings.guard_ms * 1_000;
        if let State::Waiting(poll) = &mut self.conns.at(slot).state
            && !poll.measured
        {
            let correction_us = (2 * u64::from(facts.rtt_us)).min(guard_us);
            poll.measured = true;
            poll.offer_until = Time(poll.offer_until.0.saturating_sub(correction_us));
        }
        self.arm_poll(slot);
    }

    /// Ends a held poll without a run, and says so.
    pub(super) fn end_poll(&mut self, now: Time, slot: u32, end: PollEnd) {
        let State::Waiting(poll) = &self.conns.peek(slot).state else { return };
        let Poll { pool, since, node, .. } = *poll;
        match end {
            PollEnd::Left => self.counters.polls_left += 1,
            PollEnd::Expired => self.counters.polls_expired += 1,
            PollEnd::Closed => self.counters.polls_closed += 1,
        }
        self.emit(|broker| Event::PollEnded {
            key: broker.pools.get(pool).key().clone(),
            node: broker.nodes.text(node).into(),
            end,
            held_us: now.us_since(since),
        });
        self.close(slot);
    }
}
