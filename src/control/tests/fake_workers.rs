//! Workers for tests: each answers, does not answer, or has ended.

use crate::broker::report::{Command, Counters, KeyReport, Selector, WorkerReport};
use crate::broker::settings::Confirm;
use crate::broker::token::Secrets;
use crate::control::state::{ControlState, Facts, Records, Reply, Workers};
use crate::workers::Observed;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Answers,
    Silent,
    Ended,
}

pub struct FakeWorkers(Mutex<State>);

struct State {
    behaviours: Vec<Behaviour>,
    requests: usize,
    cordons: Vec<Selector>,
    shutting_down: bool,
    secrets: Secrets,
    unanswered: Vec<(WorkerReport, Reply)>,
    events: VecDeque<Observed>,
}

impl FakeWorkers {
    pub fn new(behaviours: &[Behaviour]) -> Self {
        FakeWorkers(Mutex::new(State {
            behaviours: behaviours.to_vec(),
            requests: 0,
            cordons: Vec::new(),
            shutting_down: false,
            secrets: Secrets::default(),
            unanswered: Vec::new(),
            events: VecDeque::new(),
        }))
    }

    pub fn set(&self, worker: usize, behaviour: Behaviour) {
        self.0.lock().unwrap().behaviours[worker] = behaviour;
    }

    /// The number of requests (each to all workers).
    pub fn requests(&self) -> usize {
        self.0.lock().unwrap().requests
    }

    pub fn report(&self, observed: Observed) {
        self.0.lock().unwrap().events.push_back(observed);
    }

    pub fn secrets(&self) -> Secrets {
        self.0.lock().unwrap().secrets.clone()
    }

    pub fn answer_late(&self) {
        for (report, reply) in self.0.lock().unwrap().unanswered.drain(..) {
            reply(report);
        }
    }
}

/// The state of a broker whose workers do not serve yet.
pub fn starting_state() -> ControlState {
    let facts = Facts {
        confirm: Confirm::Read,
        connections_max: 1_000,
        own_tables: 0,
        metrics_deployments: 100,
        settings: [("--confirm".to_owned(), "read".to_owned())].into(),
    };
    ControlState::new(facts, Records::new(100, 50, 0))
}

impl Workers for FakeWorkers {
    fn request(&self, command: Command, reply: Reply) {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        let mut keys = false;
        match command {
            Command::Report { keys: asked, .. } => keys = asked.is_some(),
            Command::Cordon(selector) => state.cordons.push(selector),
            Command::Uncordon(selector) => state.cordons.retain(|other| *other != selector),
            Command::ShutDown => state.shutting_down = true,
            Command::TokenSecrets(secrets) => state.secrets = secrets,
        }
        for worker in 0..state.behaviours.len() {
            let report = WorkerReport {
                cordons: state.cordons.clone(),
                shutting_down: state.shutting_down,
                ..report(worker, keys)
            };
            match state.behaviours[worker] {
                Behaviour::Answers => reply(report),
                Behaviour::Silent => state.unanswered.push((report, reply.clone())),
                Behaviour::Ended => (),
            }
        }
    }

    fn workers(&self) -> usize {
        self.0.lock().unwrap().behaviours.len()
    }

    fn engine_name(&self) -> &'static str {
        "epoll"
    }

    fn next_event(&self) -> Option<(Observed, Duration)> {
        let observed = self.0.lock().unwrap().events.pop_front()?;
        Some((observed, Duration::from_millis(10)))
    }
}

/// A report with distinct numbers, so that tests notice swapped ones.
pub fn report(worker: usize, keys: bool) -> WorkerReport {
    let n = worker as u64;
    let row = |deployment: &str, memory: f64, waiting: u64, oldest_wait_ms: u64| KeyReport {
        deployment: deployment.to_owned(),
        version: "20260101.1".to_owned(),
        cpu: 0.5,
        memory,
        waiting,
        claimed: 0,
        parked: 1,
        cordoned: 0,
        warm: 3 + n,
        cold: 1,
        unconfirmed: 2,
        oldest_wait_ms,
    };
    WorkerReport {
        worker,
        connections: 30 + n,
        waiting: 10 + n,
        claimed: n,
        buffered_bytes: 0,
        counters: Counters {
            warm: 100 + n,
            cold_no_runner: 40,
            cold_other_version: 5,
            unconfirmed: 5,
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
        shutting_down: false,
        ..WorkerReport::default()
    }
}
