//! Dispatches at a fixed rate, whatever the server does, and stamps when each run reaches a runner.
//!
//! Every latency is measured from the moment at which the dispatch was due, so that a server that stalls is
//! charged for the dispatches that had to wait (no coordinated omission).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use harness::epoll::{Epoll, sharpen_timers};
use harness::runners::Runners;
use harness::schedule::{Schedule, Verdict};
use harness::supervisors::Supervisors;
use harness::{owners, process, socket};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

const SUPERVISORS_TOKEN: u64 = 1 << 40;
/// Of connections that shall lie with one worker, this many times as many are tried.
const CANDIDATES: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    /// Runners on one worker, supervisors on another.
    Apart,
    /// All on one worker.
    Together,
}

#[derive(Parser)]
#[command(about = "Dispatches at a fixed rate and stamps both ends")]
struct Args {
    /// The server, for runners.
    #[arg(long)]
    target: SocketAddrV4,
    /// The server, for supervisors, where that is another address.
    #[arg(long)]
    dispatch_target: Option<SocketAddrV4>,
    /// Its process, to measure its CPU and memory.
    #[arg(long)]
    server_pid: u32,
    /// Dispatches per second.
    #[arg(long)]
    rate: f64,
    #[arg(long, default_value_t = 500)]
    runners: usize,
    #[arg(long, default_value_t = 50)]
    supervisors: usize,
    /// Distinct deployments; each dispatch takes one at random.
    #[arg(long, default_value_t = 1)]
    keys: u32,
    #[arg(long, default_value_t = 1.0)]
    warmup_secs: f64,
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Runners connected per second, at most.
    #[arg(long, default_value_t = 20_000)]
    open_rate: u32,
    /// Choose connections by the worker that they landed on.
    #[arg(long)]
    split: Option<Split>,
    /// Never sleep: for a core of its own.
    #[arg(long)]
    spin: bool,
}

struct Load {
    args: Args,
    epoll: Epoll,
    runners: Runners,
    supervisors: Supervisors,
    random: u64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    socket::raise_descriptor_limit();
    sharpen_timers();
    let runners = Runners::new(args.target);
    let supervisors = Supervisors::new(args.dispatch_target.unwrap_or(args.target), SUPERVISORS_TOKEN);
    let mut load = Load { args, epoll: Epoll::new()?, runners, supervisors, random: 0x9e37_79b9_7f4a_7c15 };
    load.open()?;
    println!("{}", load.run()?);
    Ok(())
}

impl Load {
    fn open(&mut self) -> io::Result<()> {
        match self.args.split {
            None => {
                for _ in 0..self.args.supervisors {
                    self.supervisors.connect()?;
                }
                self.open_runners()?;
            }
            Some(split) => self.open_split(split)?,
        }
        self.supervisors.start(&self.epoll)?;
        let waited = Instant::now();
        while self.runners.polled() < self.args.runners && waited.elapsed() < Duration::from_secs(30) {
            self.turn(Duration::from_millis(1), &mut |_| ())?;
        }
        process::wait_idle(self.args.server_pid, Duration::from_secs(20));
        Ok(())
    }

    fn open_runners(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let sources = self.args.runners.div_ceil(socket::PER_SOURCE_MAX);
        while self.runners.len() < self.args.runners {
            let due = (started.elapsed().as_secs_f64() * f64::from(self.args.open_rate)) as usize + 1;
            while self.runners.len() < self.args.runners.min(due) {
                let index = self.runners.len();
                self.runners.connect(socket::source(index, sources), index as u32 % self.args.keys)?;
                self.runners.start(&self.epoll, index)?;
            }
            self.turn(Duration::from_millis(1), &mut |_| ())?;
        }
        Ok(())
    }

    fn open_split(&mut self, split: Split) -> io::Result<()> {
        for index in 0..self.args.runners * CANDIDATES {
            self.runners.connect(socket::source(0, 1), index as u32 % self.args.keys)?;
        }
        for _ in 0..self.args.supervisors * CANDIDATES {
            self.supervisors.connect()?;
        }
        std::thread::sleep(Duration::from_millis(100));
        let owners = owners::workers_of(self.args.server_pid, self.args.target.port())?;
        let mut workers: HashMap<u32, usize> = HashMap::new();
        owners.values().for_each(|&worker| *workers.entry(worker).or_default() += 1);
        let mut workers: Vec<u32> = workers.into_keys().collect();
        workers.sort_unstable();
        let [first, second] = workers[..] else {
            return Err(io::Error::other(format!("the server has {} workers, not 2", workers.len())));
        };
        let for_runners = first;
        let for_supervisors = if split == Split::Apart { second } else { first };
        let mut wanted = self.args.runners;
        self.runners.retain(|port| take(&mut wanted, owners.get(&port) == Some(&for_runners)));
        let mut wanted_supervisors = self.args.supervisors;
        self.supervisors
            .retain(|port| take(&mut wanted_supervisors, owners.get(&port) == Some(&for_supervisors)));
        if wanted + wanted_supervisors > 0 {
            return Err(io::Error::other("too few connections landed on one of the workers"));
        }
        for index in 0..self.runners.len() {
            self.runners.start(&self.epoll, index)?;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<Value> {
        let rss_before = process::rss_bytes(self.args.server_pid);
        let [warmup, time] = [self.args.warmup_secs, self.args.secs].map(Duration::from_secs_f64);
        let mut schedule = Schedule::new(self.args.rate, warmup, time);
        let mut late = VecDeque::new();
        let mut next = 0;
        let mut cpu_from = 0;
        while next < schedule.end {
            let now = Instant::now();
            while next < schedule.end && schedule.due(next) <= now {
                if next == schedule.first {
                    cpu_from = process::cpu_ns(self.args.server_pid);
                }
                late.push_back(next);
                next += 1;
            }
            while !late.is_empty() && self.supervisors.has_idle() {
                let key = self.random_key();
                self.supervisors.dispatch(late.pop_front().expect("the front"), key)?;
            }
            let timeout = if self.args.spin {
                Duration::ZERO
            } else {
                schedule.due(next).saturating_duration_since(now)
            };
            self.turn(timeout, &mut |event| note(&mut schedule, event))?;
        }
        let waited = Instant::now();
        while !(late.is_empty() && schedule.is_settled()) && waited.elapsed() < Duration::from_secs(3) {
            while !late.is_empty() && self.supervisors.has_idle() {
                let key = self.random_key();
                self.supervisors.dispatch(late.pop_front().expect("the front"), key)?;
            }
            self.turn(Duration::from_millis(1), &mut |event| note(&mut schedule, event))?;
        }
        let cpu_ns = process::cpu_ns(self.args.server_pid) - cpu_from;
        let mut report = report(&schedule, cpu_ns);
        report["rate"] = json!(self.args.rate);
        report["runners"] = json!(self.args.runners);
        report["keys"] = json!(self.args.keys);
        report["rss_bytes"] = json!(rss_before);
        report["renewed"] = json!(self.runners.renewed);
        report["refused"] = json!(self.runners.refused);
        Ok(report)
    }

    fn turn(&mut self, timeout: Duration, note: &mut impl FnMut(Event)) -> io::Result<()> {
        let ready: Vec<_> = self.epoll.wait(timeout).collect();
        for ready in ready {
            if self.supervisors.owns(ready.token) {
                if let Some((run, verdict)) = self.supervisors.ready(&self.epoll, ready)? {
                    note(Event::Answered(run, verdict));
                }
            } else if let Some(run) = self.runners.ready(&self.epoll, ready)? {
                note(Event::Delivered(run));
            }
        }
        Ok(())
    }

    fn random_key(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % u64::from(self.args.keys)) as u32
    }
}

fn take(wanted: &mut usize, fits: bool) -> bool {
    let taken = fits && *wanted > 0;
    *wanted -= usize::from(taken);
    taken
}

enum Event {
    Delivered(u64),
    Answered(u64, Verdict),
}

fn note(schedule: &mut Schedule, event: Event) {
    let now = Instant::now();
    match event {
        Event::Delivered(run) => schedule.note_delivered(run, now),
        Event::Answered(run, verdict) => schedule.note_answered(run, verdict, now),
    }
}

fn report(schedule: &Schedule, cpu_ns: u64) -> Value {
    let tally = schedule.tally();
    json!({
        "dispatched": tally.dispatched,
        "hits": tally.hits,
        "misses": tally.misses,
        "failed": tally.failed,
        "true_but_not_delivered": tally.lost,
        "delivered_but_not_true": tally.unproved,
        "delivered_twice": tally.doubled,
        "cpu_us_per_match": cpu_ns as f64 / 1e3 / tally.hits.max(1) as f64,
        "to_runner_us": percentiles(&schedule.to_runner),
        "to_answer_us": percentiles(&schedule.to_answer),
    })
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    json!({ "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": histogram.max() as f64 / 1e3 })
}
