//! `pilotlight demo`: a broker on free ports of this machine, runners that poll it and a supervisor that dispatches
//! to them, all over real sockets.

use super::Failure;
use super::client::{Client, Endpoint};
use super::output::print;
use super::warm_start::Key;
use crate::config::flags::{advanced, listeners, monitoring, timeouts};
use crate::config::values::{Count, Millis};
use crate::config::{ServeConfig, ServeFlags};
use crate::control::lifecycle;
use crate::sys::{Machine, process};
use clap::Args;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub const EXAMPLES: &str = "\
Examples:
  Until Ctrl-C; the first lines name the page's address:
    pilotlight demo
  For ten seconds, with many runs:
    pilotlight demo --for 10s --every 50ms --runners 20";

#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// Runners that poll
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_DEMO_RUNNERS", default_value = "4")]
    runners: Count,
    /// Time between two runs
    #[arg(long, value_name = "DURATION", env = "PILOTLIGHT_DEMO_EVERY", default_value = "500ms")]
    every: Millis,
    /// End after this time (default: at Ctrl-C)
    #[arg(long = "for", value_name = "DURATION", env = "PILOTLIGHT_DEMO_FOR")]
    time: Option<Millis>,
}

/// The keys of the runners.
const WARM_KEYS: [Key<'static>; 2] = [
    Key { deployment: "deployment_hello", version: "20260801.1" },
    Key { deployment: "deployment_thumbnails", version: "20260714.3" },
];
/// The key of every sixth run. No runner has it.
const COLD_KEY: Key<'static> = Key { deployment: "deployment_hello", version: "20260802.1" };
const COLD_EVERY: usize = 6;
/// How long a runner executes a run.
const WORK: Duration = Duration::from_millis(600);
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long a client waits for an answer. The broker ends a poll earlier, after the connection timeout.
const PATIENCE: Duration = Duration::from_secs(60);

/// The addresses of the broker's three sides.
#[derive(Clone, Copy)]
struct Sides {
    runner: SocketAddr,
    dispatch: SocketAddr,
    admin: SocketAddr,
}

/// The outcomes so far.
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

/// Runs the demo until a signal ends it, or for `--for`.
pub fn run(flags: &DemoFlags) -> Result<(), Failure> {
    let machine = Machine::prepare()?;
    let sides =
        free_sides().map_err(|error| Failure::failed(format!("no free port on 127.0.0.1: {error}")))?;
    let config = ServeConfig::resolve(broker_flags(&sides), machine)?;
    let demo = Arc::new(Demo {
        sides,
        every: Duration::from_millis(flags.every.0),
        stopping: AtomicBool::new(false),
        tally: Mutex::default(),
    });
    print(&format!(
        "A broker, {} runners that poll it and a supervisor that dispatches, on this machine.\n\
         Watch it: http://{admin}/  or in a terminal: pilotlight top --admin http://{admin}\n\
         Ctrl-C ends it.\n",
        flags.runners.0,
        admin = sides.admin
    ))?;
    for number in 0..flags.runners.0 {
        let demo = demo.clone();
        thread::spawn(move || demo.run_runner(number));
    }
    let supervisor = thread::spawn({
        let demo = demo.clone();
        move || demo.run_supervisor()
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
    ended?;
    print(&demo.summary())
}

/// The flags of the demo's broker: these addresses, and otherwise defaults. Environment variables do not count. The
/// demo's runners are threads of the same process, so the broker uses the process's descriptor table. A worker's own
/// table would start with copies of the runners' connections, and a copy would stay open when a runner closes its own.
fn broker_flags(sides: &Sides) -> ServeFlags {
    ServeFlags::with([
        (listeners::LISTEN.name, sides.runner.to_string()),
        (listeners::DISPATCH_LISTEN.name, sides.dispatch.to_string()),
        (listeners::ADMIN_LISTEN.name, sides.admin.to_string()),
        (monitoring::LOG_LEVEL.name, "error".to_owned()),
        (timeouts::SHUTDOWN_TIME.name, "200ms".to_owned()),
        (advanced::DESCRIPTOR_TABLES.name, "process".to_owned()),
    ])
}

/// Three ports that are free now.
fn free_sides() -> io::Result<Sides> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All three are open at once, so they differ. The return closes them, so the broker can bind them.
    let (runner, dispatch, admin) = (bind()?, bind()?, bind()?);
    Ok(Sides { runner: runner.local_addr()?, dispatch: dispatch.local_addr()?, admin: admin.local_addr()? })
}

impl Demo {
    fn is_running(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    /// One runner: polls, works, polls again.
    fn run_runner(&self, number: usize) {
        let Ok(client) = Client::new(Endpoint::from(self.sides.runner), None) else { return };
        let poll = WARM_KEYS[number % WARM_KEYS.len()].poll(&format!("demo_{number}"));
        while self.is_running() {
            let answered = client.ask(poll.clone(), PATIENCE);
            thread::sleep(if answered.is_ok() { WORK } else { RETRY_AFTER });
        }
    }

    /// The supervisor: dispatches a run at every interval, and prints its outcome.
    fn run_supervisor(&self) {
        let Ok(client) = Client::new(Endpoint::from(self.sides.dispatch), None) else { return };
        let mut number = 0;
        while self.is_running() {
            thread::sleep(self.every);
            let is_cold = number % COLD_EVERY == COLD_EVERY - 1;
            let key = if is_cold { &COLD_KEY } else { &WARM_KEYS[number % WARM_KEYS.len()] };
            let run = format!("run_demo{number}");
            let began = Instant::now();
            let Ok(answer) = client.ask(key.dispatch(&run), PATIENCE) else { continue };
            let took = began.elapsed();
            number += 1;
            let warm = answer.text().contains("true");
            self.count(warm.then_some(took));
            let outcome = match warm {
                true => format!("warm   a runner read it after {} us", took.as_micros()),
                false if is_cold => "cold   no runner has this version: a container would start".to_owned(),
                false => "cold   all of its runners are busy: a container would start".to_owned(),
            };
            let line = format!("{run:<12} {:<22} {:<12} {outcome}", key.deployment, key.version);
            if print(&line).is_err() {
                // Standard output is closed: no one reads the lines.
                process::ask_to_stop();
                return;
            }
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
        let median_us = tally.warm.get(tally.warm.len() / 2).map_or(0, Duration::as_micros);
        format!(
            "\n{} runs were warm, half of them within {median_us} us; {} were cold.\n\
             Start a broker for your own runners with `pilotlight serve`, then test it with `pilotlight check`.",
            tally.warm.len(),
            tally.cold
        )
    }
}
