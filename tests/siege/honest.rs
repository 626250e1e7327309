//! Honest clients: 100 runners, each with its own key, and a supervisor that dispatches runs to all of them.

use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::token;
use crate::support::trigger::{self, Key};
use crate::support::{PATIENCE, wait_until};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const RUNNERS: usize = 100;

/// The honest clients, running.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Results of the honest clients.
#[derive(Debug)]
pub struct Seen {
    /// Runs that reached their runner.
    pub runs: usize,
    /// Polls that the broker closed.
    pub closed: usize,
    /// Connections closed after they were silent for [`HASTE`] because the machine was busy.
    pub late: usize,
}

/// An honest client sends its poll within this time, unless its machine is busy.
const HASTE: Duration = Duration::from_millis(5);
/// The broker closes a late connection within this time.
const LATE_MAX: Duration = Duration::from_millis(100);
/// A connect that took this long lost a SYN: its lateness is no excuse.
const RETRANSMIT: Duration = Duration::from_millis(900);

struct Shared {
    stop: AtomicBool,
    runners: Vec<Runner>,
    closed: AtomicUsize,
    late: AtomicUsize,
    /// Wrong or incomplete responses.
    wrong: Mutex<Vec<String>>,
}

struct Runner {
    key: Key,
    poll: String,
    /// The last run dispatched to it.
    expected: Mutex<String>,
    runs: AtomicUsize,
}

impl Fleet {
    /// Starts all clients. With `tokens` each runner carries its deployment's token.
    pub fn start(broker: &Broker, tokens: bool) -> Fleet {
        let runner = || {
            let key = Key::fresh().version(token::VERSION);
            let poll = match tokens {
                false => key.poll(),
                true => {
                    Key { deployment: token::honest(&key.deployment, &key.version), ..key.clone() }.poll()
                }
            };
            Runner { key, poll, expected: Mutex::default(), runs: AtomicUsize::new(0) }
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            runners: (0..RUNNERS).map(|_| runner()).collect(),
            closed: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            wrong: Mutex::default(),
        });
        let (runner_side, dispatch_side) = (broker.runner, broker.dispatch);
        let mut threads: Vec<JoinHandle<()>> = (0..RUNNERS)
            .map(|index| {
                let shared = shared.clone();
                thread::spawn(move || shared.run(index, runner_side))
            })
            .collect();
        let supervised = shared.clone();
        threads.push(thread::spawn(move || supervised.supervise(dispatch_side)));
        Fleet { shared, threads }
    }

    /// The number of runs delivered so far.
    pub fn runs(&self) -> usize {
        self.shared.runners.iter().map(|runner| runner.runs.load(Ordering::Relaxed)).sum()
    }

    /// The key of one runner, which an attacker may know.
    pub fn a_key(&self) -> Key {
        self.shared.runners[7].key.clone()
    }

    /// The keys of all runners.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.shared.runners.iter().map(|runner| &runner.key)
    }

    /// Waits until every runner has received `count` more runs.
    pub fn wait_for_rounds(&self, count: usize) {
        let runs = || self.shared.runners.iter().map(|runner| runner.runs.load(Ordering::Relaxed));
        let before: Vec<usize> = runs().collect();
        let state =
            || format!("{:?}", runs().zip(&before).map(|(now, before)| now - before).collect::<Vec<_>>());
        wait_until("each runner had its runs", state, || {
            !self.shared.wrong.lock().unwrap().is_empty()
                || runs().zip(&before).all(|(now, before)| now >= before + count)
        });
        self.assert_nothing_wrong();
    }

    fn assert_nothing_wrong(&self) {
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Ends all clients.
    pub fn stop(mut self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
        self.assert_nothing_wrong();
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Seen { runs: self.runs(), closed: count(&self.shared.closed), late: count(&self.shared.late) }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn run(&self, index: usize, broker: SocketAddr) {
        let runner = &self.runners[index];
        while !self.stopped() {
            let began = Instant::now();
            let Ok(mut client) = Client::try_connect(broker) else {
                return self.wrong(format!("runner {index} cannot connect"));
            };
            let sent = client.try_send(&runner.poll);
            let sent_at = Instant::now();
            let may_be_late = (HASTE..RETRANSMIT).contains(&(sent_at - began));
            let is_closed = || {
                let late = may_be_late && sent_at.elapsed() < LATE_MAX;
                let count = if late { &self.late } else { &self.closed };
                count.fetch_add(1, Ordering::Relaxed);
            };
            if sent.is_err() {
                is_closed();
                continue;
            }
            let answer = loop {
                match client.read(Duration::from_millis(100)) {
                    Err(End::Silent) if self.stopped() => return,
                    Err(End::Silent) => {}
                    answer => break answer,
                }
            };
            match answer {
                Ok(run) if run.status == 200 && run.text() == *runner.expected.lock().unwrap() => {
                    runner.runs.fetch_add(1, Ordering::Relaxed);
                }
                Ok(other) => self.wrong(format!("runner {index} got {other:?}")),
                Err(_) => {
                    is_closed();
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn supervise(&self, broker: SocketAddr) {
        let mut client = Client::connect(broker);
        for (index, runner) in self.runners.iter().enumerate().cycle() {
            let message = runner.key.message();
            *runner.expected.lock().unwrap() = message.clone();
            // The answer is false while the runner is between two polls.
            loop {
                if self.stopped() {
                    return;
                }
                client.send(trigger::dispatch(&message));
                match client.read(PATIENCE) {
                    Ok(answer) if answer.status == 200 && answer.did_warm_start() => break,
                    Ok(answer) if answer.status == 200 => thread::sleep(Duration::from_millis(1)),
                    other => return self.wrong(format!("the supervisor got {other:?} for runner {index}")),
                }
            }
        }
    }
}
