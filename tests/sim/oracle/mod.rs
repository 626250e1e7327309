//! The naive model: what must hold, judged from the sockets' own truth and from what was told.
//!
//! It sees every fact that an engine hands to its core and everything that the core asks of it, and
//! looks into both kernels of every link, which the core can't.
//!
//! - [`told`]: facts on their way to a worker;
//! - [`asked`]: what a worker asks of its engine, and whether it may;
//! - [`between`]: what holds between two turns of a worker, and when all is quiet;
//! - [`heard`]: what the clients' processes read, and what it all came to.

mod asked;
pub mod between;
mod heard;
mod told;

use super::net::{LinkId, Us};
use super::plan::Plan;
use super::tally::Tally;
use super::trace::Trace;
use pilotlight::broker::io::TcpFacts;
use pilotlight::broker::settings::Settings;
use std::rc::Rc;

/// What a client asks for.
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
    /// Anything may become of it.
    Garbage,
}

/// One request of a connection's script.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub kind: Kind,
    /// Where it ends in the client's stream.
    pub end: u64,
    /// The client asked for the connection to end behind it.
    pub close: bool,
}

/// What a connection does, as its client's script and the facts told so far have it.
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
    /// Its last response is out; nothing is owed any more.
    Closing,
    /// Its bytes broke the rules: whatever becomes of it is well.
    Lawless,
    /// It was told that they did (the kernel took that, or not yet); it gets nothing more.
    Refused {
        sent: bool,
    },
}

/// A connection that a worker was told of.
pub struct Conn {
    worker: usize,
    doing: Doing,
    /// Since when, by the core's clock and by the network's.
    since: Us,
    since_net: Us,
    /// Order in which polls were held.
    order: u64,
    script: Vec<Ask>,
    next: usize,
    received: u64,
    /// The first byte of the request that is incomplete.
    begun: Option<Us>,
    last_close: bool,
    told_fin: bool,
    told_reset: bool,
    open: bool,
    /// Bytes of an interim response are on their way.
    interim: bool,
}

/// A run on its way to one poll.
pub struct Attempt {
    run: usize,
    link: LinkId,
    at: Us,
    /// Where the response ends in the broker's stream.
    stream_end: u64,
    sent: bool,
    fin_before_sent: bool,
    /// The last facts that were told, and when they last showed progress.
    facts: Option<TcpFacts>,
    unacked: u64,
    progress_at: Us,
    /// The kernel is being asked.
    probing: bool,
    /// Proved by a FIN that left the other direction open: its process may not have read yet.
    half_closed: bool,
    ended: Option<Ended>,
    ended_at: Us,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Confirmed,
    Released,
}

/// A run, from its dispatch to whoever got it.
pub struct Run {
    pub key: usize,
    pub message: Rc<Vec<u8>>,
    home: usize,
    /// When the core had all of it, by its clock and by the network's.
    since: Option<(Us, Us)>,
    answer: Option<bool>,
    answered_at: Us,
    attempts: Vec<usize>,
    /// Runner processes that read all of it, and on which link.
    got_by: Vec<(usize, LinkId)>,
    /// What the supervisor's process read.
    heard: Option<bool>,
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
            got_by: Vec::new(),
            heard: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    Node(usize),
    Key(usize),
}

/// One core, as the control plane left it.
#[derive(Clone, Debug, Default)]
pub struct CoreView {
    /// Cordons that may be in force, and those that certainly are.
    pub cordons_maybe: Vec<Cordon>,
    pub cordons_surely: Vec<Cordon>,
    pub drain_asked: bool,
    pub drain_began: Option<Us>,
    /// When a cordon was last lifted (the network's clock).
    uncordoned_at: Us,
    now: Us,
    warm: u64,
    cold: u64,
    attempts: u64,
}

impl CoreView {
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
    /// There may be more keys than a worker remembers.
    keys_scarce: bool,
    /// There may be more bytes than a worker takes.
    bytes_scarce: bool,
    /// Nothing but the network makes anybody wait.
    punctual: bool,
    /// By key; some share one.
    deployments: Vec<String>,
    /// By link.
    conns: Vec<Option<Conn>>,
    scripts: Vec<Vec<Ask>>,
    /// Open connections, by core.
    open: Vec<Vec<LinkId>>,
    attempts: Vec<Attempt>,
    pub runs: Vec<Run>,
    pub workers: Vec<CoreView>,
    orders: u64,
    pub fault: Option<String>,
    pub tally: Tally,
    pub trace: Trace,
}

/// Timers are kept in whole milliseconds and round up.
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
            workers: vec![CoreView::default(); plan.workers],
            orders: 0,
            fault: None,
            tally: Tally::default(),
            trace: Trace::new(trace),
        }
    }

    /// The first violation stays.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.fault.get_or_insert(text.into());
    }

    /// A client will write this request; `end` is where it ends in its stream.
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
        self.conns[link].as_mut().expect("the engine told of its accept")
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

/// The number of the run that is in these bytes.
fn run_in(bytes: &[u8]) -> Option<usize> {
    const BEFORE: &[u8] = b"\"friendlyId\":\"run_";
    let start = &bytes[..bytes.len().min(400)];
    let at = find(start, BEFORE)? + BEFORE.len();
    let digits = bytes[at..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
