//! The sections of a run.

mod closed;
mod held;
mod open;

use std::time::Instant;

use anyhow::Result;

use crate::Section;
use crate::crowd::Crowd;
use crate::machine::Machine;
use crate::results::{Described, Results};
use crate::servers::{Kind, Server};

/// Descriptors that a process needs in addition to its polls: connections of supervisors, and ended connections that
/// are not closed yet.
const DESCRIPTORS_FOR_THE_REST: u64 = 1000;

/// The most processes of the load that its core can run. (A broker may have 64 workers.)
const PROCESSES_MAX: u64 = 16;

/// Durations and numbers of a run.
pub struct Plan {
    quick: bool,
    rounds: u32,
    warms_up: bool,
    window_secs: u64,
    /// The most repeats of one window, and of all windows.
    repeats_max: u32,
    repeats_left: u32,
    held: Vec<u64>,
    aborts: u64,
    aborts_secs_max: u64,
    open_secs: f64,
    /// Rounds at 50 % of capacity, and of each server of a pair.
    latency_rounds: u32,
    /// Rounds with few and with many keys. There are more of them, since other machines on the host affect the cost of
    /// cache misses.
    keys_rounds: u32,
    /// Rounds of each arrangement of workers.
    workers_rounds: u32,
    /// The polls and keys of the crowded case.
    crowd: Crowd,
    scale: Vec<u64>,
}

impl Plan {
    pub fn full() -> Self {
        Plan {
            quick: false,
            rounds: 7,
            warms_up: true,
            window_secs: 3,
            repeats_max: 3,
            repeats_left: 80,
            held: vec![500, 10_000, 200_000],
            aborts: 1_000_000,
            aborts_secs_max: 130,
            open_secs: 3.0,
            latency_rounds: 5,
            keys_rounds: 9,
            workers_rounds: 5,
            crowd: Crowd { polls: 100_000, keys: 10_000 },
            scale: vec![500, 10_000, 50_000, 100_000, 200_000],
        }
    }

    pub fn quick() -> Self {
        Plan {
            quick: true,
            rounds: 1,
            warms_up: false,
            window_secs: 1,
            repeats_max: 0,
            repeats_left: 0,
            held: vec![500],
            aborts: 5_000,
            aborts_secs_max: 1,
            open_secs: 0.3,
            latency_rounds: 1,
            keys_rounds: 1,
            workers_rounds: 1,
            crowd: Crowd { polls: 2_000, keys: 200 },
            scale: vec![500],
        }
    }

    fn held_most(&self) -> u64 {
        self.held.iter().copied().max().unwrap_or(0)
    }

    fn scale_most(&self) -> u64 {
        self.scale.iter().copied().max().unwrap_or(0)
    }
}

/// The numbers of polls, up to the possible maximum.
fn up_to(most: u64, polls: &[u64]) -> Vec<u64> {
    let mut polls: Vec<u64> = polls.iter().map(|&polls| most.min(polls)).collect();
    polls.dedup();
    polls
}

pub struct Measure {
    plan: Plan,
    servers: Vec<Server>,
    /// The most polls of one process of the load, one worker of Pilotlight or one process of a peer.
    per_process: u64,
    pub results: Results,
    started: Instant,
}

impl Measure {
    pub fn new(plan: Plan, servers: Vec<Server>, descriptors: u64, foreign_percent_max: f64) -> Self {
        let per_process = descriptors.saturating_sub(DESCRIPTORS_FOR_THE_REST).max(1);
        let ours = servers.iter().find(|server| server.kind == Kind::Ours);
        let described = servers.iter().map(|server| Described {
            name: server.name.to_owned(),
            what: server.what.to_owned(),
            binary_bytes: server.binary.as_ref().and_then(|path| path.metadata().ok()).map(|meta| meta.len()),
        });
        let results = Results {
            machine: Machine::describe(ours.map(|server| server.program.as_path()), descriptors),
            quick: plan.quick,
            foreign_percent_max,
            servers: described.collect(),
            ..Results::default()
        };
        Measure { plan, servers, per_process, results, started: Instant::now() }
    }

    pub fn run(&mut self, section: Section) -> Result<()> {
        match section {
            Section::Windows => self.windows()?,
            Section::Syscalls => self.syscalls()?,
            Section::Memory => self.memory()?,
            Section::Aborts => self.aborts()?,
            Section::Latency => self.undisturbed(Self::latency)?,
            Section::Keys => self.undisturbed(Self::keys)?,
            Section::Workers => self.workers()?,
            Section::Scale => self.undisturbed(Self::scale)?,
        }
        self.results.minutes = self.started.elapsed().as_secs_f64() / 60.0;
        Ok(())
    }

    /// The server with enough workers for `polls`, or for as many as possible, and the number of polls. Pilotlight gets
    /// as many workers as needed, and the load as many processes.
    fn reaching(&self, server: &Server, polls: u64) -> (Server, u64) {
        let most = if server.kind == Kind::Ours { PROCESSES_MAX } else { 1 };
        let workers = polls.div_ceil(self.per_process).clamp(1, most);
        (Server { workers, ..server.clone() }, polls.min(self.per_process * workers))
    }

    /// Repeats a measurement while its disturbance is above the limit (1). If all repeats are disturbed, it keeps the
    /// least disturbed one, and the page marks it.
    fn quiet<T>(&mut self, disturbance: fn(&T, f64) -> f64, run: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let foreign_percent_max = self.results.foreign_percent_max;
        let disturbance = |measured: &T| disturbance(measured, foreign_percent_max);
        let mut best = run(self)?;
        for _ in 0..self.plan.repeats_max {
            if disturbance(&best) <= 1.0 || self.plan.repeats_left == 0 {
                break;
            }
            self.plan.repeats_left -= 1;
            let again = run(self)?;
            if disturbance(&again) < disturbance(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    /// The expected duration without repeats. Each term is a number times the duration of one with its pauses.
    pub fn expected_secs(&self, sections: &[Section]) -> f64 {
        const START: f64 = 1.0;
        let plan = &self.plan;
        let count =
            |takes_part: fn(&Server) -> bool| self.servers.iter().filter(|s| takes_part(s)).count() as f64;
        let warmup = |server: &Server| if plan.warms_up { server.warmup_secs as f64 } else { 0.0 };
        let window = |server: &Server| START + warmup(server) + plan.window_secs as f64;
        let windows: f64 = self.servers.iter().map(window).sum();
        let open = START + 1.5 + plan.open_secs;
        let aborting = |server: &Server| {
            START + (plan.aborts as f64 / f64::from(server.open_rate)).min(plan.aborts_secs_max as f64)
        };
        let filling = |server: &Server, polls: u64| self.reaching(server, polls).1 as f64 / 12_000.0;
        let secs = |section: &Section| match section {
            Section::Windows => windows * f64::from(plan.rounds),
            Section::Syscalls => windows,
            Section::Memory => {
                let held = |server| START + 2.0 + filling(server, plan.held_most());
                self.servers.iter().filter(|s| s.parts.memory).map(held).sum()
            }
            Section::Aborts => self.servers.iter().filter(|s| s.parts.memory).map(aborting).sum(),
            Section::Latency => {
                let pairs = count(|s| s.parts.latency && s.kind == Kind::Ours);
                let rounds = f64::from(plan.latency_rounds);
                (count(|s| s.parts.latency) * (rounds + 2.0) + pairs * rounds) * open
            }
            Section::Keys => {
                let round = |server| 2.0 * open + filling(server, plan.crowd.polls);
                self.servers.iter().filter(|s| s.parts.keys).map(round).sum::<f64>()
                    * f64::from(plan.keys_rounds)
            }
            Section::Workers => count(|s| s.parts.workers) * f64::from(plan.workers_rounds) * 3.0 * open,
            Section::Scale => {
                let row = |server, polls: &u64| open + filling(server, *polls);
                let rows = |server| plan.scale.iter().map(|polls| row(server, polls)).sum::<f64>();
                self.servers.iter().filter(|s| s.parts.scale).map(rows).sum()
            }
        };
        sections.iter().map(secs).sum()
    }
}
