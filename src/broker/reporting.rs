//! What a worker reports: events, and answers to the control thread.

use super::Broker;
use super::connections::State;
use super::counters::Counters;
use super::event::Event;
use super::io::{Output, Shared};
use super::pools::Pool;
use super::report::{KeyPage, KeyReport, WorkerReport};
use super::time::Time;

/// Rows per report. The worker does other work between two pages.
const KEYS_PER_REPORT: usize = 1_024;

impl<S: Shared> Broker<S> {
    /// Emits an event, if all events are wanted.
    pub(super) fn emit(&mut self, event: impl FnOnce(&Self) -> Event) {
        if self.settings.events {
            let event = event(self);
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// What this worker holds now, and what it has counted.
    pub fn report(&self, now: Time, keys: Option<KeyPage>) -> WorkerReport {
        let (keys, next_page) = match keys {
            Some(page) => self.key_reports(now, page),
            None => (Vec::new(), None),
        };
        WorkerReport {
            worker: self.worker,
            connections: self.connections.open_count() as u64,
            waiting: self.waiting() as u64,
            claimed: self.index.counts().claimed as u64,
            buffered_bytes: self.budget.held() as u64,
            counters: Counters { token_verifications: self.tokens.verifications(), ..self.counters.clone() },
            times: self.watch.times.with_immediate(self.counters.attempts),
            keys,
            next_page,
            cordons: self.cordons.iter().cloned().collect(),
            shutting_down: self.shutdown.is_some(),
            token_fault: self.tokens.last_sample().cloned().map(Box::new),
        }
    }

    fn key_reports(&self, now: Time, page: KeyPage) -> (Vec<KeyReport>, Option<usize>) {
        let (pools, next) = self.index.pools().page(page.from, KEYS_PER_REPORT);
        (pools.map(|pool| self.key_report(now, pool)).collect(), next)
    }

    fn key_report(&self, now: Time, pool: &Pool) -> KeyReport {
        let key = pool.key_ref();
        let oldest = pool.oldest().map(|slot| match &self.connections.get(slot).state {
            State::Waiting(poll) => now.us_since(poll.since) / 1_000,
            _ => 0,
        });
        KeyReport {
            deployment: key.redacted_deployment().to_owned(),
            version: key.version.to_owned(),
            cpu: key.cpu.get(),
            memory: key.memory.get(),
            waiting: pool.held() as u64,
            claimed: pool.claimed() as u64,
            parked: pool.parked() as u64,
            cordoned: pool.cordoned() as u64,
            warm: pool.warm,
            cold: pool.cold,
            unconfirmed: pool.unconfirmed,
            oldest_wait_ms: oldest.unwrap_or(0),
        }
    }
}
