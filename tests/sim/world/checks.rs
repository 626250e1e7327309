//! What the world looks at between two turns, and when all is quiet.

use super::super::net::Us;
use super::super::oracle::between::SelfView;
use super::super::plan::KeySpec;
use super::super::tally::Tally;
use super::{Sim, World};
use pilotlight::broker::io::{HINT_KINDS, Shared as _};
use pilotlight::broker::key::{KeyRef, Number};
use pilotlight::broker::report::{Counters, KeyPage, KeyReport};
use pilotlight::broker::time::Time;

impl World {
    /// What must hold between two turns.
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
        oracle.check_core(index, &own, now);
        for link in sockets[index].paused() {
            oracle.check_paused(link);
        }
        if net.rng.chance(0.05) {
            let report = broker.report(Time(now), Some(KeyPage::default()));
            if report.keys.len() > plan.settings.keys_max {
                oracle
                    .fail(format!("worker {index} remembers {} keys, more than allowed", report.keys.len()));
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
                oracle.fail(format!("a poll of key {key} waits on index {index}, and the hints say no"));
            }
        }
    }

    /// All is quiet: nothing may be left.
    pub(super) fn check_rest(&mut self) -> Result<Tally, String> {
        let sim = &mut *self.shared.borrow_mut();
        for (index, slot) in self.workers.iter().enumerate() {
            let Some(worker) = &slot.worker else { continue };
            sum_up(worker.broker().counters(), &mut sim.oracle.tally);
            if !worker.broker().is_at_rest() {
                return Err(format!(
                    "all is quiet, and worker {index} still holds something: {:?}",
                    worker.broker().report(Time(slot.now), Some(KeyPage::default()))
                ));
            }
            if sim.oracle.workers[index].drain_asked {
                return Err(format!("all is quiet, and worker {index} is not drained"));
            }
        }
        if (0..HINT_KINDS * self.hints.buckets()).any(|bucket| self.hints.holders(bucket).0 != 0) {
            return Err("all is quiet, and a hint is left".into());
        }
        if !self.hints.open_connection(1) {
            return Err("all is quiet, and a connection is still counted".into());
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

/// The corners that a worker has been to.
pub(super) fn sum_up(counters: &Counters, tally: &mut Tally) {
    tally.add("core: refused at a limit", counters.refused());
    tally.add("core: evicted", counters.evicted);
    tally.add("core: accept errors", counters.accept_errors);
    tally.add("core: polls left", counters.polls_left);
    tally.add("core: polls expired", counters.polls_expired);
    tally.add("core: polls closed", counters.polls_closed);
    tally.add("core: unconfirmed", counters.unconfirmed);
    tally.add("core: rejected", counters.rejected);
    tally.add("core: requests timed out", counters.requests_timed_out);
    tally.add("core: attempts confirmed", counters.attempts_confirmed);
    tally.add("core: attempts reset", counters.attempts_reset);
    tally.add("core: attempts unacknowledged", counters.attempts_ack_timeout);
    tally.add("core: attempts unread", counters.attempts_read_timeout);
    tally.add("core: offers sent", counters.offers_sent);
    tally.add("core: offers returned", counters.offers_returned);
}
