//! The faults: machines vanish, processes freeze, connections break, and the broker itself ends. For each fault:
//! the supervisor's answer, the bytes that the runner gets, and how long it takes.
//!
//! Real sockets, real kernels at both ends, the broker as its own process. Namespaces and TUN devices
//! represent other machines. The suite needs root, iproute2 and util-linux, and fails without them.
//!
//! ```text
//! cargo test --test faults                      all faults
//! cargo test --test faults black_hole           faults with this in their name
//! PILOTLIGHT_BIN=target/release/pilotlight ...  with another binary
//! PILOTLIGHT_ENGINE=io-uring ...                on another engine
//! PILOTLIGHT_ACK_CHECK_FROM_EVENTS=1 ... ack    without ACK timestamps, like a busy broker
//! PILOTLIGHT_RING_FROM_EVENTS=1 ... ack         with everything through the ring, like a busy broker
//! PILOTLIGHT_WRITE_GUARANTEES=1 ...             write the table to docs/guarantees.md
//! ```
//!
//! A run of all faults fails if that page lists other faults.
//!
//! Every test checks one rule: **the answer is `true` only if the runner's process has read the run (`read`),
//! or its kernel has acknowledged it (`ack`).**

mod broker;
mod http;
mod net;
mod noise;
mod process;
#[path = "../support/mod.rs"]
mod support;
mod sys;
mod table;
mod wire;

mod delays;
mod encrypted;
mod ends;
mod fleet;
mod herd;
mod limits;
mod processes;
mod races;
mod readers;
mod restart;
mod shutdown;
mod silence;

use broker::{Broker, Builder};
use http::Supervisor;
use libtest_mimic::{Arguments, Trial};
use noise::Noise;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use table::Row;

/// What counts as delivered: the broker's `--confirm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Read,
    Ack,
    Write,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Mode::Read => "read",
            Mode::Ack => "ack",
            Mode::Write => "write",
        }
    }
}

/// The workers of the poll and the dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Workers {
    /// Both on the only worker.
    One,
    /// On two workers.
    Two,
}

/// The modes and workers that a fault is tested with.
#[derive(Clone, Copy)]
enum Scope {
    /// `read`, `ack` and, for comparison, `write`; the first two also across workers.
    Everything,
    /// `read` and `ack`, each also across workers.
    Proofs,
    /// Each mode, on one worker.
    Modes,
    /// `read` and `ack`, on one worker.
    ProofsOnOneWorker,
    /// Only this mode, on one worker.
    Only(Mode),
}

impl Scope {
    fn cases(self) -> Vec<(Mode, Workers)> {
        use {Mode::*, Workers::*};
        match self {
            Scope::Everything => vec![(Read, One), (Read, Two), (Ack, One), (Ack, Two), (Write, One)],
            Scope::Proofs => vec![(Read, One), (Read, Two), (Ack, One), (Ack, Two)],
            Scope::Modes => vec![(Read, One), (Ack, One), (Write, One)],
            Scope::ProofsOnOneWorker => vec![(Read, One), (Ack, One)],
            Scope::Only(mode) => vec![(mode, One)],
        }
    }
}

/// Whether other tests may run at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    Parallel,
    /// The test loads the machine, or takes measurements that load would disturb.
    Alone,
}

/// A fault.
#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    scope: Scope,
    runs: Runs,
    test: fn(&Case),
}

/// A fault in one mode.
struct Case {
    place: usize,
    rows: AtomicUsize,
    noise: Noise,
    mode: Mode,
    workers: Workers,
}

impl Case {
    /// A broker in this case's mode, with one or two workers.
    fn broker(&self) -> Builder {
        Builder::new(self.mode).workers(match self.workers {
            Workers::One => 1,
            Workers::Two => 2,
        })
    }

    /// A supervisor, on the other worker if there are two.
    fn supervisor(&self, broker: &Broker, deployment: &str) -> Supervisor {
        broker.supervisor_elsewhere(deployment)
    }

    /// How much longer than the broker's bound this machine may take now.
    fn noise(&self) -> Duration {
        self.noise.allowance()
    }

    /// Asserts that it took as long as the broker's bound. The broker counts from the beginning of a turn, which
    /// on a busy machine may be before the run was sent.
    fn took_about(&self, took: Duration, bound: Duration) {
        const TURN: Duration = Duration::from_millis(5);
        assert!(took >= bound - TURN && took < bound + self.noise(), "{took:?} for {bound:?}");
    }

    /// Adds a row to the table. Every case of a fault adds the same rows in the same order.
    fn row(&self, what: &str, outcome: impl ToString, got: impl ToString, took: impl ToString) {
        let row = self.rows.fetch_add(1, Ordering::Relaxed);
        table::record(Row {
            place: (self.place, row),
            what: what.to_owned(),
            mode: self.mode,
            workers: self.workers,
            outcome: outcome.to_string(),
            got: got.to_string(),
            took: took.to_string(),
        });
    }
}

/// Parallel tests hold it for reading, a test that runs alone for writing.
static ALONE: RwLock<()> = RwLock::new(());

fn trial(place: usize, fault: Fault, mode: Mode, workers: Workers) -> Trial {
    let suffix = if workers == Workers::Two { "::two_workers" } else { "" };
    let name = format!("{}::{}{suffix}", fault.name, mode.name());
    Trial::test(name, move || {
        let case = Case { place, rows: AtomicUsize::new(0), noise: Noise::measure(), mode, workers };
        match fault.runs {
            Runs::Parallel => {
                let _parallel = ALONE.read();
                (fault.test)(&case);
            }
            Runs::Alone => {
                let _alone = ALONE.write();
                (fault.test)(&case);
            }
        }
        Ok(())
    })
}

/// All faults in the order of the table.
fn faults() -> Vec<Fault> {
    [
        silence::FAULTS,
        races::FAULTS,
        processes::FAULTS,
        readers::FAULTS,
        encrypted::FAULTS,
        delays::FAULTS,
        ends::FAULTS,
        limits::FAULTS,
        shutdown::FAULTS,
        restart::FAULTS,
        herd::FAULTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    if let Some(code) = process::helper(std::env::args()) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Most tests only wait.
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for runs in [Runs::Parallel, Runs::Alone] {
        for (place, fault) in faults().into_iter().enumerate().filter(|(_, fault)| fault.runs == runs) {
            trials.extend(
                fault.scope.cases().into_iter().map(|(mode, workers)| trial(place, fault, mode, workers)),
            );
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{}", table::plain());
    }
    if conclusion.has_failed() || arguments.list || conclusion.num_filtered_out > 0 {
        return conclusion.exit_code();
    }
    let page = Page::read();
    if std::env::var_os("PILOTLIGHT_WRITE_GUARANTEES").is_some() {
        page.write(&table::markdown());
    } else if table::first_column(&page.table) != table::first_column(&table::markdown()) {
        println!("docs/guarantees.md lists other faults: PILOTLIGHT_WRITE_GUARANTEES=1 writes these");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// docs/guarantees.md, around the table.
struct Page {
    before: String,
    table: String,
    after: String,
}

impl Page {
    const BEGIN: &str = "<!-- Written by tests/faults: do not edit from here -->\n";
    const END: &str = "<!-- to here -->\n";

    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guarantees.md")
    }

    fn read() -> Page {
        let text = std::fs::read_to_string(Page::path()).expect("docs/guarantees.md");
        let (before, rest) = text.split_once(Page::BEGIN).expect("the mark before the table");
        let (table, after) = rest.split_once(Page::END).expect("the mark after the table");
        Page { before: before.to_owned(), table: table.to_owned(), after: after.to_owned() }
    }

    fn write(&self, table: &str) {
        let Page { before, after, .. } = self;
        let text = format!("{before}{}\n{table}\n{}{after}", Page::BEGIN, Page::END);
        std::fs::write(Page::path(), text).expect("docs/guarantees.md");
    }
}
