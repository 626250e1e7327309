//! The sections of a run.

mod closed;
mod held;
mod open;

use std::time::Instant;

use anyhow::Result;

use crate::Section;
use crate::machine::Machine;
use crate::results::{Described, Results};
use crate::servers::{Kind, Server};

/// What a process needs beside its polls: connections of supervisors, and those that have ended but are not
/// closed.
const DESCRIPTORS_FOR_THE_REST: u64 = 1000;

/// How long and how much. Everything is bounded.
pub struct Plan {
    quick: bool,
    rounds: u32,
    warms_up: bool,
    window_secs: u64,
    /// A window is run again at most this often, and all of them together.
    repeats_max: u32,
    repeats_left: u32,
    held: Vec<u64>,
    aborts: u64,
    aborts_secs_max: u64,
    open_secs: f64,
    /// At 50 % of capacity, and of each side of a pair.
    latency_rounds: u32,
    /// Of each arrangement of keys and of workers.
    open_rounds: u32,
    /// Polls and keys of the crowded case.
    crowd: (u64, u64),
    scale: Vec<u64>,
}

impl Plan {
    pub fn full() -> Self {
        Plan {
            quick: false,
            rounds: 5,
            warms_up: true,
            window_secs: 3,
            repeats_max: 3,
            repeats_left: 80,
            held: vec![500, 10_000, 200_000],
            aborts: 1_000_000,
            aborts_secs_max: 130,
            open_secs: 3.0,
            latency_rounds: 5,
            open_rounds: 3,
            crowd: (100_000, 10_000),
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
            open_rounds: 1,
            crowd: (2_000, 200),
            scale: vec![500],
        }
    }

    /// No more polls than one process has descriptors for, on either side.
    fn within(mut self, descriptors: u64) -> Self {
        let most = descriptors.saturating_sub(DESCRIPTORS_FOR_THE_REST);
        for list in [&mut self.held, &mut self.scale] {
            list.iter_mut().for_each(|polls| *polls = most.min(*polls));
            list.dedup();
        }
        self.crowd.0 = most.min(self.crowd.0);
        self
    }
}

pub struct Measure {
    plan: Plan,
    servers: Vec<Server>,
    pub results: Results,
    started: Instant,
}

impl Measure {
    pub fn new(plan: Plan, servers: Vec<Server>, descriptors: u64, foreign_percent_max: f64) -> Self {
        let plan = plan.within(descriptors);
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
        Measure { plan, servers, results, started: Instant::now() }
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

    /// Runs something again while the rest of the machine disturbs it. If it is disturbed every time, the least
    /// disturbed is kept, and the page says so.
    fn quiet<T>(
        &mut self,
        foreign_percent: impl Fn(&T) -> f64,
        run: impl Fn(&Self) -> Result<T>,
    ) -> Result<T> {
        let mut best = run(self)?;
        for _ in 0..self.plan.repeats_max {
            if foreign_percent(&best) <= self.results.foreign_percent_max || self.plan.repeats_left == 0 {
                break;
            }
            self.plan.repeats_left -= 1;
            let again = run(self)?;
            if foreign_percent(&again) < foreign_percent(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    /// Without repeats. Each term: how often, times what one takes with its start and its pauses.
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
        let filling = |polls: u64| polls as f64 / 12_000.0;
        let rounds = f64::from(plan.open_rounds);
        let secs = |section: &Section| match section {
            Section::Windows => windows * f64::from(plan.rounds),
            Section::Syscalls => windows,
            Section::Memory => {
                count(|s| s.parts.memory)
                    * (START + 2.0 + filling(plan.held.iter().copied().max().unwrap_or(0)))
            }
            Section::Aborts => self.servers.iter().filter(|s| s.parts.memory).map(aborting).sum(),
            Section::Latency => {
                let pairs = count(|s| s.parts.latency && s.kind == Kind::Ours);
                let rounds = f64::from(plan.latency_rounds);
                (count(|s| s.parts.latency) * (rounds + 2.0) + pairs * rounds) * open
            }
            Section::Keys => count(|s| s.parts.keys) * rounds * (2.0 * open + filling(plan.crowd.0)),
            Section::Workers => count(|s| s.parts.workers) * rounds * 3.0 * open,
            Section::Scale => {
                count(|s| s.parts.scale) * plan.scale.iter().map(|&polls| open + filling(polls)).sum::<f64>()
            }
        };
        sections.iter().map(secs).sum()
    }
}
