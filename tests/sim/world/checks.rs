//! Checks between two turns of a worker, and at the end.

use super::super::net::Us;
use super::super::oracle::invariants::SelfView;
use super::super::plan::KeySpec;
use super::super::tally::Tally;
use super::{Sim, World};
use pilotlight::broker::io::{HINT_KINDS, Shared as _};
use pilotlight::broker::json::Number;
use pilotlight::broker::pools::KeyRef;
use pilotlight::broker::report::{Counters, KeyPage, KeyReport};
use pilotlight::broker::time::Time;

impl World {
    /// Checks what must hold between two turns.
    pub(super) fn check(&mut self, index: usize, now: Us) {
        let Some(worker) = &self.workers[index].worker else { return };
        let broker = worker.broker();
        let sim = &mut *self.shared.borrow_mut();
        let Sim { oracle, net, plan, sockets, .. } = sim;
        let own = SelfView {
            waiting: broker.waiting(),
            connections: broker.connections(),
            buffered_bytes: broker.buffered_bytes(),
            next_deadline: worker.next_deadline().map(|at| at.0),
            counters: broker.counters(),
        };
        oracle.check_worker(index, &own, now);
        for link in sockets[index].paused() {
            oracle.check_paused(link);
        }
        if net.rng.chance(0.05) {
            let report = broker.report(Time(now), Some(KeyPage::default()));
            if report.keys.len() > plan.settings.keys_max {
                oracle.fail(format!("worker {index} remembers {} keys, above the limit", report.keys.len()));
            }
            for key in 0..plan.keys.len() {
                let row = report.keys.iter().find(|row| is_row_of(row, &plan.keys[key]));
                oracle.check_key(index, key, row, net);
            }
        }
        for key in oracle.keys_to_be_found(index, net) {
            let spec = &plan.keys[key];
            let number = |text| Number::parse(text).expect("the plan's numbers are numbers");
            let key_ref = KeyRef {
                deployment: &spec.deployment,
                version: &spec.version,
                cpu: number(spec.cpu.0),
                memory: number(spec.memory.0),
            };
            let bucket = key_ref.hash(&self.hasher) as usize & (self.hints.buckets() - 1);
            if self.hints.holders(bucket).0 & 1 << index == 0 {
                oracle.fail(format!(
                    "a poll of key {key} is matchable on worker {index}, and the hints say no"
                ));
            }
        }
    }

    /// All clients have ended: the workers must hold nothing.
    pub(super) fn check_rest(&mut self) -> Result<Tally, String> {
        let sim = &mut *self.shared.borrow_mut();
        for (index, slot) in self.workers.iter().enumerate() {
            let Some(worker) = &slot.worker else { continue };
            sum_up(worker.broker().counters(), &mut sim.oracle.tally);
            if !worker.broker().is_at_rest() {
                return Err(format!(
                    "all clients have ended, and worker {index} still holds state: {:?}",
                    worker.broker().report(Time(slot.now), Some(KeyPage::default()))
                ));
            }
            if sim.oracle.workers[index].shutdown_requested {
                return Err(format!("all clients have ended, and worker {index} has not shut down"));
            }
        }
        if (0..HINT_KINDS * self.hints.buckets()).any(|bucket| self.hints.holders(bucket).0 != 0) {
            return Err("all clients have ended, and a hint is left".into());
        }
        if !self.hints.open_connection(1) {
            return Err("all clients have ended, and a connection is still counted".into());
        }
        sim.oracle.conclude();
        let faults = std::mem::take(&mut sim.net.tally);
        sim.oracle.tally.add_all(&faults);
        match sim.oracle.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(sim.oracle.tally.clone()),
        }
    }
}

fn is_row_of(row: &KeyReport, key: &KeySpec) -> bool {
    let number = |text: &str| text.parse::<f64>().expect("the plan's numbers are numbers");
    row.deployment == key.deployment
        && row.version == key.version
        && row.cpu == number(key.cpu.0)
        && row.memory == number(key.memory.0)
}

/// Adds a worker's counters to the tally.
pub(super) fn sum_up(counters: &Counters, tally: &mut Tally) {
    tally.add("worker: refused at a limit", counters.refused());
    tally.add("worker: evicted", counters.evicted);
    tally.add("worker: accept errors", counters.accept_errors);
    tally.add("worker: polls left", counters.polls_left);
    tally.add("worker: polls expired", counters.polls_expired);
    tally.add("worker: polls closed", counters.polls_closed);
    tally.add("worker: unconfirmed", counters.unconfirmed);
    tally.add("worker: rejected", counters.rejected);
    tally.add("worker: requests timed out", counters.requests_timed_out);
    tally.add("worker: attempts confirmed", counters.attempts_confirmed);
    tally.add("worker: attempts reset", counters.attempts_reset);
    tally.add("worker: attempts unacknowledged", counters.attempts_ack_timeout);
    tally.add("worker: attempts unread", counters.attempts_read_timeout);
    tally.add("worker: offers sent", counters.offers_sent);
    tally.add("worker: offers returned", counters.offers_returned);
}
