//! Drain, cordon and report: what the control plane asks of a worker.

use super::Broker;
use super::conn::{Poll, State};
use super::event::PollEnd;
use super::io::{Output, Shared};
use super::pool::Pool;
use super::report::{Counters, KeyPage, KeyReport, Selector, WorkerReport};
use super::time::Time;
use super::token;
use std::collections::BTreeSet;

/// The way out: new dispatches get false, claimed polls finish, held polls are closed one by one. Whatever is
/// answered from now on says that its connection ends with it.
pub struct Shutdown {
    /// Idle connections whose last response did not say that they end are kept until then, so that no
    /// supervisor's request meets our close.
    ends_at: Time,
    /// Not in the turn in which it began: connections that the kernel had queued are told in the next.
    not_before: Time,
    finished: bool,
}

impl Shutdown {
    /// With nobody left there is nothing to wait for.
    pub(super) fn next_deadline(&self, open_count: usize) -> Option<Time> {
        let at = if open_count == 0 { self.not_before } else { self.ends_at };
        (!self.finished).then_some(at)
    }
}

/// Polls that must not match: those of a node that is being emptied, or of a deployment.
#[derive(Default)]
pub struct Cordons(BTreeSet<Selector>);

impl Cordons {
    /// A cordon is in force for this poll.
    pub fn cover(&self, deployment: &str, node: &str) -> bool {
        self.0.iter().any(|selector| match selector {
            Selector::Node(name) => name == node,
            Selector::Deployment(id) => id == deployment,
        })
    }

    /// A cordon of the whole deployment is in force.
    pub fn cover_deployment(&self, deployment: &str) -> bool {
        self.0.iter().any(|selector| matches!(selector, Selector::Deployment(id) if id == deployment))
    }
}

impl<S: Shared> Broker<S> {
    /// Closes the held polls that match; new ones are held, not matched, until it is lifted. (Their
    /// clients would come back at once if they were closed, again and again.)
    pub(super) fn cordon(&mut self, now: Time, selector: Selector) {
        self.cordons.0.insert(selector.clone());
        let only = Cordons(BTreeSet::from([selector]));
        let covered: Vec<u32> = self.held_polls(|deployment, node| only.cover(deployment, node));
        for slot in covered {
            self.end_poll(now, slot, PollEnd::Closed);
        }
    }

    /// Lifts a cordon: what was held under it may match again, unless the core drains.
    pub(super) fn uncordon(&mut self, now: Time, selector: &Selector) {
        if !self.cordons.0.remove(selector) || self.shutdown.is_some() {
            return;
        }
        let only = Cordons(BTreeSet::from([selector.clone()]));
        let freed = self.held_polls(|deployment, node| {
            only.cover(deployment, node) && !self.cordons.cover(deployment, node)
        });
        for slot in freed {
            let State::Waiting(poll) = &mut self.conns.at(slot).state else { continue };
            if poll.matchable {
                continue;
            }
            let was_cordoned = std::mem::take(&mut poll.cordoned);
            let Poll { pool, offer_until, .. } = *poll;
            let pool = self.pools.get_mut(pool);
            pool.cordoned -= u32::from(was_cordoned);
            pool.parked += u32::from(was_cordoned);
            if now < offer_until {
                pool.parked -= 1;
                self.index(slot);
                self.arm_poll(slot);
            }
        }
    }

    fn held_polls(&self, covered: impl Fn(&str, &str) -> bool) -> Vec<u32> {
        self.conns
            .iter()
            .filter(|(_, conn)| match &conn.state {
                State::Waiting(poll) => {
                    let key = self.pools.get(poll.pool).key_ref();
                    covered(key.deployment, self.nodes.text(poll.node))
                }
                _ => false,
            })
            .map(|(slot, _)| slot)
            .collect()
    }

    /// Begins the drain. Held polls get their ends spread over the drain time, so that their
    /// runners do not all come back in one instant.
    pub(super) fn begin_shutdown(&mut self, now: Time) {
        if self.shutdown.is_some() {
            return;
        }
        let shutdown_us = self.settings.shutdown_time_ms * 1_000;
        let not_before = now.plus_us(1);
        self.shutdown =
            Some(Shutdown { ends_at: now.plus_us(shutdown_us).max(not_before), not_before, finished: false });
        self.outputs.push_back(Output::StopAccepting);
        let held = self.held_polls(|_, _| true);
        let count = held.len() as u64;
        for (index, slot) in held.into_iter().enumerate() {
            let State::Waiting(poll) = self.conns.peek(slot).state else { continue };
            if poll.matchable {
                self.park(slot);
            }
            let in_turn = now.plus_us(shutdown_us * index as u64 / count);
            self.timers.arm(slot, in_turn.min(self.expiry(&poll)));
        }
    }

    /// Says `Drained` once nobody waits for anything, and no later than the drain time allows.
    pub(super) fn shutdown_progress(&mut self, now: Time) {
        let Some(shutdown) = &self.shutdown else { return };
        if shutdown.finished {
            return;
        }
        if now >= shutdown.ends_at {
            let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                let state = &self.conns.peek(slot).state;
                if !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {
                    self.close(slot);
                }
            }
        }
        // What is claimed or awaited ends within the dispatch timeout by its own timers.
        let Some(shutdown) = &mut self.shutdown else { return };
        if self.conns.open_count() == 0 {
            shutdown.finished = now >= shutdown.not_before;
        }
        if shutdown.finished {
            self.outputs.push_back(Output::ShutdownComplete);
        } else if now >= shutdown.ends_at {
            shutdown.ends_at = now.plus_ms(SHUTDOWN_CHECK_MS);
        }
    }

    /// What this worker is holding and has counted.
    pub fn report(&self, now: Time, keys: Option<KeyPage>) -> WorkerReport {
        let (keys, next_page) = match keys {
            Some(page) => self.key_reports(now, page),
            None => (Vec::new(), None),
        };
        WorkerReport {
            worker: self.worker,
            connections: self.conns.open_count() as u64,
            waiting: self.waiting() as u64,
            claimed: self.claimed as u64,
            buffered_bytes: self.budget.held() as u64,
            counters: Counters { token_verifications: self.tokens.verifications, ..self.counters.clone() },
            times: self.times.with_immediate(self.counters.attempts),
            keys,
            next_page,
            cordons: self.cordons.0.iter().cloned().collect(),
            shutting_down: self.shutdown.is_some(),
            token_fault: self.token_fault.clone(),
        }
    }

    fn key_reports(&self, now: Time, page: KeyPage) -> (Vec<KeyReport>, Option<usize>) {
        let (pools, next) = self.pools.page(page.from, KEYS_PER_REPORT);
        (pools.map(|pool| self.key_report(now, pool)).collect(), next)
    }

    fn key_report(&self, now: Time, pool: &Pool) -> KeyReport {
        let key = pool.key_ref();
        let oldest = pool.oldest().map(|slot| match &self.conns.peek(slot).state {
            State::Waiting(poll) => now.us_since(poll.since) / 1_000,
            _ => 0,
        });
        KeyReport {
            deployment: token::shown(key.deployment).to_owned(),
            version: key.version.to_owned(),
            cpu: key.cpu.get(),
            memory: key.memory.get(),
            waiting: pool.held() as u64,
            claimed: u64::from(pool.claimed),
            parked: u64::from(pool.parked),
            cordoned: u64::from(pool.cordoned),
            warm: pool.warm,
            cold: pool.cold,
            oldest_wait_ms: oldest.unwrap_or(0),
        }
    }

    /// The counts agree with the states. O(1) parts on every call; debug builds only.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        let timers = self.timers.armed();
        assert_eq!(timers, self.conns.open_count(), "every open connection has exactly one timer");
        if self.conns.open_count().max(self.pools.len()) <= INVARIANTS_CONNECTIONS_MAX {
            self.check_states();
        }
    }

    /// Recounts every state from the table.
    #[cfg(debug_assertions)]
    fn check_states(&self) {
        let (mut indexed, mut parked, mut claimed, mut pending_dispatches, mut silent) = (0, 0, 0, 0, 0);
        for (_, conn) in self.conns.iter() {
            match &conn.state {
                State::Waiting(poll) if poll.matchable => indexed += 1,
                State::Waiting(_) => parked += 1,
                State::Claimed(_) => claimed += 1,
                State::Dispatch(_) => pending_dispatches += 1,
                State::Fresh { spoke: false } => silent += 1,
                _ => {}
            }
        }
        assert_eq!(
            (indexed, parked, claimed, pending_dispatches, silent),
            (self.matchable, self.unmatchable, self.claimed, self.pending_dispatches, self.silent.len()),
            "indexed, parked, claimed, pending_dispatches, silent"
        );
        for bucket in self.pools.iter().map(|pool| self.bucket_of(pool)) {
            let here = self.pools.iter().filter(|pool| self.bucket_of(pool) == bucket);
            let waiting: usize = here.map(|pool| pool.waiting()).sum();
            assert_eq!(self.bucket_counts[bucket] as usize, waiting, "bucket counts");
        }
        let in_pools: usize = self.pools.iter().map(|pool| pool.waiting()).sum();
        assert_eq!(in_pools, self.matchable, "pools");
        self.check_bounds();
        let held: usize = self.pools.iter().map(Pool::held).sum();
        assert_eq!(held, self.waiting(), "held");
        let related: u32 = self.bucket_counts[self.shared.buckets()..].iter().sum();
        let indexed_pools = self.pools.iter().filter(|pool| pool.waiting() > 0).count();
        assert_eq!(related as usize, 2 * indexed_pools, "relations");
    }
}

/// Rows that a worker writes at one go; between two pages it goes on with its work.
const KEYS_PER_REPORT: usize = 1_024;

/// Past the drain time: how soon to look again whether the last deliveries are settled.
const SHUTDOWN_CHECK_MS: u64 = 10;

/// Debug builds recount all states after every call while there are few enough of them.
#[cfg(debug_assertions)]
const INVARIANTS_CONNECTIONS_MAX: usize = 64;
