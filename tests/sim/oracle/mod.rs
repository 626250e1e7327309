//! The naive model: it checks the invariants against the sockets' true state and the reported facts.
//!
//! It sees every input and every output of a worker. It also sees both kernels of every link, which
//! the worker cannot.
//!
//! - [`inputs`]: facts that the engine reports to a worker;
//! - [`outputs`]: a worker's requests to its engine, and whether each is allowed;
//! - [`invariants`]: the invariants between two turns of a worker;
//! - [`clients`]: what the clients' processes read, and each run's outcome at the end.

mod clients;
mod inputs;
pub mod invariants;
mod outputs;

use super::net::{LinkId, Us};
use super::plan::Plan;
use super::tally::Tally;
use super::trace::Trace;
use pilotlight::broker::io::TcpFacts;
use pilotlight::broker::settings::Settings;
use std::rc::Rc;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Poll {
        key: usize,
        node: usize,
    },
    Dispatch {
        run: usize,
    },
    /// Any reaction is allowed.
    Garbage,
}

/// One request of a connection's script.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub kind: Kind,
    /// Its end in the client's stream.
    pub end: u64,
    /// The client asked the broker to close the connection after it.
    pub close: bool,
}

/// The state of a connection, by its client's script and the facts reported so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Nothing,
    Held {
        key: usize,
        node: usize,
    },
    Claimed {
        attempt: usize,
    },
    Awaiting {
        run: usize,
    },
    Answering,
    /// Its last response is sent.
    Closing,
    /// It sent garbage: any reaction is allowed.
    Garbage,
    /// The broker refused it (`sent`: the kernel accepted the refusal); no response may follow.
    Refused {
        sent: bool,
    },
}

/// A connection that a worker accepted.
pub struct Conn {
    worker: usize,
    doing: Doing,
    /// When the state began, by the worker's clock and by the network's.
    since: Us,
    since_net: Us,
    /// The order in which polls were held.
    order: u64,
    script: Vec<Ask>,
    next: usize,
    received: u64,
    /// When the first byte of an incomplete request arrived.
    begun: Option<Us>,
    last_close: bool,
    fin_reported: bool,
    reset_reported: bool,
    open: bool,
    /// An interim response is being sent.
    interim: bool,
}

/// The delivery of a run to one poll.
pub struct Attempt {
    run: usize,
    link: LinkId,
    at: Us,
    /// The response's end in the broker's stream.
    stream_end: u64,
    sent: bool,
    fin_before_sent: bool,
    /// The last facts reported, and when they last showed progress.
    facts: Option<TcpFacts>,
    unacked: u64,
    progress_at: Us,
    /// A probe is in progress.
    probing: bool,
    /// Proved by a half-close: its process may not have read the run yet.
    half_closed: bool,
    ended: Option<Ended>,
    ended_at: Us,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Confirmed,
    Released,
}

/// A run, from its dispatch to its delivery.
pub struct Run {
    pub key: usize,
    pub message: Rc<Vec<u8>>,
    home: usize,
    /// When the worker had the whole dispatch, by its clock and by the network's.
    since: Option<(Us, Us)>,
    answer: Option<bool>,
    answered_at: Us,
    attempts: Vec<usize>,
    /// Runners whose process read the whole run, with the link.
    read_by: Vec<(usize, LinkId)>,
    /// The answer that the supervisor's process read.
    answer_read: Option<bool>,
}

impl Run {
    pub fn new(key: usize, message: Vec<u8>) -> Run {
        Run {
            key,
            message: Rc::new(message),
            home: 0,
            since: None,
            answer: None,
            answered_at: 0,
            attempts: Vec::new(),
            read_by: Vec::new(),
            answer_read: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    Node(usize),
    Key(usize),
}

/// One worker, as the control thread has set it up.
#[derive(Clone, Debug, Default)]
pub struct WorkerView {
    /// Cordons that may be in force, and cordons that certainly are.
    pub cordons_maybe: Vec<Cordon>,
    pub cordons_surely: Vec<Cordon>,
    pub shutdown_requested: bool,
    pub shutdown_began: Option<Us>,
    /// When a cordon was last lifted (the network's clock).
    uncordoned_at: Us,
    now: Us,
    warm: u64,
    cold: u64,
    attempts: u64,
}

impl WorkerView {
    pub fn cordoned(&mut self, cordon: Cordon) {
        self.cordons_surely.push(cordon);
        self.cordons_maybe.push(cordon);
    }

    pub fn uncordoned(&mut self, cordon: Cordon, net_now: Us) {
        self.cordons_surely.retain(|other| *other != cordon);
        self.cordons_maybe.retain(|other| *other != cordon);
        self.uncordoned_at = net_now;
    }
}

pub struct Oracle {
    settings: Settings,
    /// There may be more keys than `keys_max`.
    keys_scarce: bool,
    /// There may be more bytes than `buffered_bytes_max`.
    bytes_scarce: bool,
    /// Only the network causes delays: no stalls, slow messages or clock jumps.
    punctual: bool,
    /// The deployment of each key; keys may share one.
    deployments: Vec<String>,
    /// Connections by link.
    conns: Vec<Option<Conn>>,
    scripts: Vec<Vec<Ask>>,
    /// Open connections by worker.
    open: Vec<Vec<LinkId>>,
    attempts: Vec<Attempt>,
    pub runs: Vec<Run>,
    pub workers: Vec<WorkerView>,
    orders: u64,
    pub fault: Option<String>,
    pub tally: Tally,
    pub trace: Trace,
}

/// Timers are in whole milliseconds and round up.
const TICK_US: Us = 1_000;

impl Oracle {
    pub fn new(plan: &Plan, trace: bool) -> Oracle {
        let faults = &plan.faults;
        Oracle {
            settings: plan.settings.clone(),
            keys_scarce: plan.settings.keys_max < plan.keys.len(),
            bytes_scarce: plan.bytes_scarce(),
            punctual: faults.stall + faults.stall_on_offer == 0.0
                && faults.slow_mail == 0.0
                && !faults.clock_jump,
            deployments: plan.keys.iter().map(|key| key.deployment.clone()).collect(),
            conns: Vec::new(),
            scripts: Vec::new(),
            open: vec![Vec::new(); plan.workers],
            attempts: Vec::new(),
            runs: Vec::new(),
            workers: vec![WorkerView::default(); plan.workers],
            orders: 0,
            fault: None,
            tally: Tally::default(),
            trace: Trace::new(trace),
        }
    }

    /// Records a violation; the first one is kept.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.fault.get_or_insert(text.into());
    }

    /// Records a request that a client is about to write.
    pub fn ask(&mut self, link: LinkId, ask: Ask) {
        if self.scripts.len() <= link {
            self.scripts.resize(link + 1, Vec::new());
        }
        self.scripts[link].push(ask);
        if let Some(Some(conn)) = self.conns.get_mut(link) {
            conn.script.push(ask);
        }
    }

    fn conn(&mut self, link: LinkId) -> &mut Conn {
        self.conns[link].as_mut().expect("the engine reported its accept")
    }

    /// Open connections of a worker.
    fn open_on(&self, worker: usize) -> impl Iterator<Item = (LinkId, &Conn)> {
        self.open[worker].iter().filter_map(|link| Some((*link, self.conns[*link].as_ref()?)))
    }

    /// When the run's dispatch must be answered (its home's clock).
    fn deadline(&self, run: usize) -> Us {
        let since = self.runs[run].since.map_or(0, |since| since.0);
        since + self.settings.dispatch_timeout_ms * 1_000
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The number of the run in these bytes.
fn run_in(bytes: &[u8]) -> Option<usize> {
    const BEFORE: &[u8] = b"\"friendlyId\":\"run_";
    let start = &bytes[..bytes.len().min(400)];
    let at = find(start, BEFORE)? + BEFORE.len();
    let digits = bytes[at..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
