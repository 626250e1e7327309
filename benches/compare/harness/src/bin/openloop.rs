//! Dispatches at a fixed rate that does not depend on the server, and records when each run reaches a runner.
//!
//! Every latency counts from the moment at which the dispatch was due, so that a stalled server is charged for the
//! dispatches that had to wait (no coordinated omission).

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use harness::epoll::{Epoll, sharpen_timers};
use harness::report::{Counts, Report, together};
use harness::runners::Runners;
use harness::schedule::{Outcome, Schedule};
use harness::stalls::{Pace, Seen};
use harness::supervisors::Supervisors;
use harness::watch::Watch;
use harness::{owners, process, socket};

const SUPERVISORS_TOKEN: u64 = 1 << 40;
/// To get enough connections at one worker, this many times as many are opened.
const CANDIDATES: usize = 3;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    /// Runners on one worker, supervisors on another.
    Apart,
    /// Runners and supervisors on one worker.
    Together,
}

#[derive(Parser)]
#[command(about = "Dispatches at a fixed rate and records the times at both ends")]
struct Args {
    /// The server's address for runners.
    #[arg(long)]
    target: SocketAddrV4,
    /// The server's address for supervisors, if it differs.
    #[arg(long)]
    dispatch_target: Option<SocketAddrV4>,
    /// The server's process, to measure its CPU and memory.
    #[arg(long)]
    server_pid: u32,
    /// Dispatches per second.
    #[arg(long)]
    rate: f64,
    #[arg(long, default_value_t = 500)]
    runners: usize,
    #[arg(long, default_value_t = 50)]
    supervisors: usize,
    /// Distinct deployments; each dispatch uses a random one.
    #[arg(long, default_value_t = 1)]
    keys: u32,
    /// The number of the first deployment. Other processes use other deployments.
    #[arg(long, default_value_t = 0)]
    first_key: u32,
    /// Runners connect from 127.0.0.N and the following addresses. Other processes use other addresses.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_source: u8,
    #[arg(long, default_value_t = 1.0)]
    warmup_secs: f64,
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// The most runners to connect per second.
    #[arg(long, default_value_t = 20_000)]
    open_rate: u32,
    /// Choose connections by their worker.
    #[arg(long)]
    split: Option<Split>,
    /// Never sleep; needs its own core.
    #[arg(long)]
    spin: bool,
    /// Watch the server's core N, and report latencies without the dispatches that stalls delayed. Needs root.
    #[arg(long, value_name = "N", requires = "spin", requires = "load_share")]
    watch_cpu: Option<usize>,
    /// The rate as a share of the server's capacity, which determines how fast a backlog is worked off.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    load_share: Option<f64>,
    /// Run as one of several processes: write a line when all runners poll, read the time of the first dispatch in
    /// nanoseconds since the epoch, and write a report to combine with the others.
    #[arg(long)]
    on_cue: bool,
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
    let random = SEED + u64::from(args.first_key);
    let mut load = Load { args, epoll: Epoll::new()?, runners, supervisors, random };
    load.open()?;
    let on_cue = load.args.on_cue;
    let report = load.run()?;
    let output =
        if on_cue { serde_json::to_string(&report)? } else { serde_json::to_string(&together(&[report]))? };
    println!("{output}");
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
                let source = socket::source(self.args.first_source, index, sources);
                self.runners.connect(source, self.key(index as u64))?;
                self.runners.start(&self.epoll, index)?;
            }
            self.turn(Duration::from_millis(1), &mut |_| ())?;
        }
        Ok(())
    }

    fn open_split(&mut self, split: Split) -> io::Result<()> {
        for index in 0..self.args.runners * CANDIDATES {
            let source = socket::source(self.args.first_source, 0, 1);
            self.runners.connect(source, self.key(index as u64))?;
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

    fn run(&mut self) -> io::Result<Report> {
        let due = if self.args.on_cue { Some(cue()?) } else { None };
        let (polled, rss_before) = (self.runners.polled(), process::rss_bytes(self.args.server_pid));
        if let Some(due) = due {
            std::thread::sleep(due.duration_since(SystemTime::now()).unwrap_or_default());
        }
        let watch = self.watch();
        let [warmup, time] = [self.args.warmup_secs, self.args.secs].map(Duration::from_secs_f64);
        let mut book = Book::new(Schedule::new(self.args.rate, warmup, time), watch.is_some());
        let (first, end) = (book.schedule.first, book.schedule.end);
        let mut late = VecDeque::new();
        let mut next = 0;
        let mut cpu_from = 0;
        while next < end {
            let now = Instant::now();
            book.came(now);
            while next < end && book.schedule.due(next) <= now {
                if next == first {
                    cpu_from = process::cpu_ns(self.args.server_pid);
                    book.pace = self.args.spin.then(Pace::default);
                }
                late.push_back(next);
                next += 1;
            }
            while !late.is_empty() && self.supervisors.has_idle() {
                let key = self.random_key();
                self.supervisors.dispatch(late.pop_front().expect("the front"), key)?;
                book.came(Instant::now());
            }
            let timeout = if self.args.spin {
                Duration::ZERO
            } else {
                book.schedule.due(next).saturating_duration_since(now)
            };
            self.turn(timeout, &mut |event| book.note(event))?;
        }
        let stalls = book.pace.take().map(|pace| pace.stalls).unwrap_or_default();
        let waited = Instant::now();
        while !(late.is_empty() && book.schedule.is_settled()) && waited.elapsed() < Duration::from_secs(3) {
            while !late.is_empty() && self.supervisors.has_idle() {
                let key = self.random_key();
                self.supervisors.dispatch(late.pop_front().expect("the front"), key)?;
            }
            self.turn(Duration::from_millis(1), &mut |event| book.note(event))?;
        }
        let cpu_ns = process::cpu_ns(self.args.server_pid) - cpu_from;
        let Book { schedule, seen, .. } = book;
        let calm = match (watch, seen, self.args.load_share) {
            (Some(watch), Some(seen), Some(share)) => {
                Some(seen.calm(&schedule, &stalls, &watch.end()?, share))
            }
            _ => None,
        };
        let tally = schedule.tally();
        Ok(Report {
            rate: self.args.rate,
            counts: Counts {
                runners: polled as u64,
                keys: self.args.keys.into(),
                dispatched: tally.dispatched,
                warm: tally.warm,
                cold: tally.cold,
                failed: tally.failed,
                true_but_not_delivered: tally.lost,
                delivered_but_not_true: tally.unproved,
                delivered_twice: tally.doubled,
                renewed: self.runners.renewed,
                refused: self.runners.refused,
            },
            cpu_ns,
            stalled_ns: stalls.iter().map(|stall| stall.length().as_nanos() as u64).sum(),
            rss_bytes: rss_before,
            to_runner: (&schedule.to_runner).into(),
            to_answer: (&schedule.to_answer).into(),
            calm,
        })
    }

    /// Without real-time priority there is no watch.
    fn watch(&self) -> Option<Watch> {
        let watch = Watch::begin(self.args.watch_cpu?);
        watch.inspect_err(|error| eprintln!("the server's core is not watched: {error}")).ok()
    }

    /// Notes each event. The pace counts all actions, also those that belong to no dispatch.
    fn turn(&mut self, timeout: Duration, note: &mut impl FnMut(Option<Event>)) -> io::Result<()> {
        let ready: Vec<_> = self.epoll.wait(timeout).collect();
        for ready in ready {
            note(if self.supervisors.owns(ready.token) {
                let answered = self.supervisors.ready(&self.epoll, ready)?;
                answered.map(|(run, outcome)| Event::Answered(run, outcome))
            } else {
                self.runners.ready(&self.epoll, ready)?.map(Event::Delivered)
            });
        }
        Ok(())
    }

    fn random_key(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.key(self.random)
    }

    fn key(&self, number: u64) -> u32 {
        self.args.first_key + (number % u64::from(self.args.keys)) as u32
    }
}

/// Reports that all runners poll, and waits for the start time.
fn cue() -> io::Result<SystemTime> {
    println!("open");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let nanos = line.trim().parse().map_err(|_| io::Error::other("no time to begin at"))?;
    Ok(UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|_| "no number")?;
    if (0.0..1.0).contains(&share) {
        Ok(share)
    } else {
        Err("less than all, and not less than nothing".to_owned())
    }
}

fn take(wanted: &mut usize, fits: bool) -> bool {
    let taken = fits && *wanted > 0;
    *wanted -= usize::from(taken);
    taken
}

enum Event {
    Delivered(u64),
    Answered(u64, Outcome),
}

/// Records the outcomes of the dispatches and the pace of the load.
struct Book {
    schedule: Schedule,
    /// Present if the server's core is watched.
    seen: Option<Seen>,
    /// The pace of a load that never sleeps, after the warm-up.
    pace: Option<Pace>,
}

impl Book {
    fn new(schedule: Schedule, is_watched: bool) -> Self {
        let seen = is_watched.then(|| Seen::new(&schedule));
        Book { schedule, seen, pace: None }
    }

    fn came(&mut self, now: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.came(now);
        }
    }

    fn note(&mut self, event: Option<Event>) {
        let now = Instant::now();
        self.came(now);
        match event {
            None => {}
            Some(Event::Delivered(run)) => {
                self.schedule.note_delivered(run, now);
                self.seen.iter_mut().for_each(|seen| seen.note_delivered(run, now));
            }
            Some(Event::Answered(run, outcome)) => {
                self.schedule.note_answered(run, outcome, now);
                self.seen.iter_mut().for_each(|seen| seen.note_answered(run, now));
            }
        }
    }
}
