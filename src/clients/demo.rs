//! `pilotlight demo`: a broker on free ports of this machine, runners that wait on it and a supervisor
//! that dispatches to them, all over real sockets, so that a visitor sees matches before reading on.

use super::Key;
use super::http::Url;
use crate::cli::{self, DemoFlags};
use crate::config::{ConfigError, ServeConfig};
use crate::control::lifecycle::{self, RunError};
use crate::sys::{Machine, process};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the runners were started for, and every few runs one that nobody is warm for.
const KEYS: [Key<'static>; 2] = [
    Key { deployment: "deployment_hello", version: "20260801.1" },
    Key { deployment: "deployment_thumbnails", version: "20260714.3" },
];
const COLD: Key<'static> = Key { deployment: "deployment_hello", version: "20260802.1" };
const COLD_EVERY: usize = 6;
/// What a run takes a runner.
const WORK: Duration = Duration::from_millis(600);
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Above the connection timeout, with which the broker ends a poll.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No port of 127.0.0.1 can be had.
    #[error("no free port on 127.0.0.1: {0}")]
    Ports(io::Error),
    /// The broker's settings do not fit this machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker did not start, or ended.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// The addresses of the broker's sides.
#[derive(Clone, Copy)]
struct Sides {
    runner: SocketAddr,
    dispatch: SocketAddr,
    admin: SocketAddr,
}

/// What the demo has shown so far.
#[derive(Default)]
struct Tally {
    warm: Vec<Duration>,
    cold: usize,
}

struct Demo {
    sides: Sides,
    every: Duration,
    stopping: AtomicBool,
    tally: Mutex<Tally>,
}

/// Shows matches until it is stopped, or for as long as `flags` say.
///
/// # Errors
/// The broker could not be started.
pub fn run(flags: &DemoFlags, machine: Machine) -> Result<(), DemoError> {
    let sides = free_sides().map_err(DemoError::Ports)?;
    let config = ServeConfig::resolve(cli::demo_broker(sides.runner, sides.dispatch, sides.admin), machine)?;
    let demo = Arc::new(Demo {
        sides,
        every: Duration::from_millis(flags.every.0),
        stopping: AtomicBool::new(false),
        tally: Mutex::default(),
    });
    say(&format!(
        "A broker, {} runners that wait and a supervisor that dispatches, on this machine.\n\
         See it live: http://{admin}/  or in a terminal: pilotlight top --admin http://{admin}\n\
         Ctrl-C ends it.\n",
        flags.runners.0,
        admin = sides.admin
    ));
    for number in 0..flags.runners.0 {
        let demo = demo.clone();
        thread::spawn(move || demo.wait_for_runs(number));
    }
    let supervisor = thread::spawn({
        let demo = demo.clone();
        move || demo.dispatch()
    });
    if let Some(time) = flags.time {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(time.0));
            process::ask_to_stop();
        });
    }
    let ended = lifecycle::run(config);
    demo.stopping.store(true, Ordering::Relaxed);
    let _ = supervisor.join();
    say(&demo.summary());
    Ok(ended?)
}

/// Three ports that are free now.
fn free_sides() -> io::Result<Sides> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Bound together, so that they differ; let go together, for the broker.
    let (runner, dispatch, admin) = (bind()?, bind()?, bind()?);
    Ok(Sides { runner: runner.local_addr()?, dispatch: dispatch.local_addr()?, admin: admin.local_addr()? })
}

impl Demo {
    fn goes_on(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    /// One runner: polls, works, polls again.
    fn wait_for_runs(&self, number: usize) {
        let runner = Url::from(self.sides.runner);
        let poll = KEYS[number % KEYS.len()].poll(&runner, &format!("demo_{number}"));
        while self.goes_on() {
            // A connection for each poll, as a client has that was told to close the last one.
            let answered = runner.open(PATIENCE).and_then(|mut runner| runner.ask(&poll));
            thread::sleep(if answered.is_ok() { WORK } else { RETRY_AFTER });
        }
    }

    /// The supervisor: a run every now and then, and what it was told of it.
    fn dispatch(&self) {
        let broker = Url::from(self.sides.dispatch);
        let mut connection = None;
        let mut number = 0;
        while self.goes_on() {
            thread::sleep(self.every);
            let is_cold = number % COLD_EVERY == COLD_EVERY - 1;
            let key = if is_cold { &COLD } else { &KEYS[number % KEYS.len()] };
            let run = format!("run_demo{number}");
            let dispatch = key.dispatch(&broker, &run);
            let open = connection.take().map_or_else(|| broker.open(PATIENCE), Ok);
            let began = Instant::now();
            let Ok((answer, kept)) = open.and_then(|mut open| Ok((open.ask(&dispatch)?, open))) else {
                continue;
            };
            let took = began.elapsed();
            connection = Some(kept);
            number += 1;
            let warm = answer.body.contains("true");
            self.count(warm.then_some(took));
            let outcome = match warm {
                true => format!("warm   its runner has it after {} us", took.as_micros()),
                false if is_cold => {
                    "cold   nobody waits with this version: a container would start".to_owned()
                }
                false => "cold   its runners are all at work: a container would start".to_owned(),
            };
            say(&format!("{run:<12} {:<22} {:<12} {outcome}", key.deployment, key.version));
        }
    }

    fn count(&self, warm: Option<Duration>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match warm {
            Some(took) => tally.warm.push(took),
            None => tally.cold += 1,
        }
    }

    fn summary(&self) -> String {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.warm.sort();
        let half = tally.warm.get(tally.warm.len() / 2).map_or(0, Duration::as_micros);
        format!(
            "\n{} runs warm, half of them within {half} us; {} cold.\n\
             A broker for your own runners: pilotlight serve. Whether it works where it stands: pilotlight check.",
            tally.warm.len(),
            tally.cold
        )
    }
}

/// To standard output; one that is closed is nobody's problem.
fn say(words: &str) {
    let _ = writeln!(io::stdout(), "{words}");
}
