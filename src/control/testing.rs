//! Workers for tests: each answers, is silent, or has ended.

use super::admin::{Admin, Facts};
use super::cores::{Cores, Reply};
use super::watch::Watch;
use crate::broker::report::{Command, CoreReport, Counters, KeyReport, Selector};
use crate::broker::settings::Confirm;
use crate::broker::token::Secrets;
use crate::shard::Observed;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    Answers,
    Silent,
    Ended,
}

pub struct FakeCores(Mutex<State>);

struct State {
    manners: Vec<Manner>,
    asked: usize,
    cordons: Vec<Selector>,
    draining: bool,
    secrets: Secrets,
    unanswered: Vec<(CoreReport, Reply)>,
    events: VecDeque<Observed>,
}

impl FakeCores {
    pub fn new(manners: &[Manner]) -> Self {
        FakeCores(Mutex::new(State {
            manners: manners.to_vec(),
            asked: 0,
            cordons: Vec::new(),
            draining: false,
            secrets: Secrets::default(),
            unanswered: Vec::new(),
            events: VecDeque::new(),
        }))
    }

    pub fn now(&self, core: usize, manner: Manner) {
        self.0.lock().unwrap().manners[core] = manner;
    }

    /// How many questions were asked (of all workers at once).
    pub fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    pub fn tell(&self, observed: Observed) {
        self.0.lock().unwrap().events.push_back(observed);
    }

    /// What tokens are verified with.
    pub fn secrets(&self) -> Secrets {
        self.0.lock().unwrap().secrets.clone()
    }

    pub fn answer_late(&self) {
        for (report, reply) in self.0.lock().unwrap().unanswered.drain(..) {
            reply(report);
        }
    }
}

/// An admin side that serves nothing yet.
pub fn admin() -> Admin {
    let facts = Facts {
        confirm: Confirm::Read,
        connections_max: 1_000,
        own_tables: 0,
        metrics_deployments: 100,
        settings: vec![("--confirm", "read".to_owned())],
    };
    Admin::new(facts, Watch::new(100, 50, 0))
}

impl Cores for FakeCores {
    fn request(&self, command: Command, reply: Reply) {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        let mut keys = false;
        match command {
            Command::Report { keys: asked, .. } => keys = asked.is_some(),
            Command::Cordon(selector) => state.cordons.push(selector),
            Command::Uncordon(selector) => state.cordons.retain(|other| *other != selector),
            Command::Drain => state.draining = true,
            Command::TokenSecrets(secrets) => state.secrets = secrets,
        }
        for core in 0..state.manners.len() {
            let report =
                CoreReport { cordons: state.cordons.clone(), draining: state.draining, ..report(core, keys) };
            match state.manners[core] {
                Manner::Answers => reply(report),
                Manner::Silent => state.unanswered.push((report, reply.clone())),
                Manner::Ended => (),
            }
        }
    }

    fn workers(&self) -> usize {
        self.0.lock().unwrap().manners.len()
    }

    fn engine_name(&self) -> &'static str {
        "epoll"
    }

    fn next_event(&self) -> Option<(Observed, Duration)> {
        let observed = self.0.lock().unwrap().events.pop_front()?;
        Some((observed, Duration::from_millis(10)))
    }
}

/// Worker `core`'s report: every number is its own, so that a mix-up shows.
pub fn report(core: usize, keys: bool) -> CoreReport {
    let n = core as u64;
    let row = |deployment: &str, memory: f64, waiting: u64, oldest_wait_ms: u64| KeyReport {
        deployment: deployment.to_owned(),
        version: "20260101.1".to_owned(),
        cpu: 0.5,
        memory,
        waiting,
        claimed: 0,
        ending: 1,
        cordoned: 0,
        hits: 3 + n,
        misses: 1,
        oldest_wait_ms,
    };
    CoreReport {
        core,
        connections: 30 + n,
        waiting: 10 + n,
        claimed: n,
        buffered_bytes: 0,
        counters: Counters {
            hits: 100 + n,
            misses_nobody: 40,
            misses_other_version: 5,
            misses_unconfirmed: 5,
            bytes_in: 1_000,
            ..Counters::default()
        },
        keys: match keys {
            true => vec![
                row("deployment_b", 1.0, 4, 2_000 + n),
                row("deployment_a", 0.25 * (n + 1) as f64, 6 + n, 1_000),
            ],
            false => Vec::new(),
        },
        cordons: Vec::new(),
        draining: false,
        ..CoreReport::default()
    }
}
