//! The faults: what a supervisor is told, what a runner gets and how long it takes when machines
//! vanish, processes freeze, connections break in the middle, and the broker itself goes.
//!
//! Real sockets, real kernels at both ends, the broker as a process of its own. Namespaces and TUN
//! devices stand for other machines, so this needs root, iproute2 and util-linux; where one of them
//! is missing the tests fail, they are not skipped.
//!
//! ```text
//! cargo test --test faults                      all
//! cargo test --test faults black_hole           those with this in their name
//! PILOTLIGHT_BIN=target/release/pilotlight ...  of another binary
//! PILOTLIGHT_ENGINE=io-uring ...                of another engine
//! PILOTLIGHT_ACK_CHECK_FROM_EVENTS=1 ... ack         with acknowledgements looked for, as a busy broker does
//! PILOTLIGHT_RING_FROM_EVENTS=1 ... ack         with everything through the ring, as a busy broker does
//! PILOTLIGHT_WRITE_GUARANTEES=1 ...             and write the table to docs/guarantees.md
//! ```
//!
//! All of them together fail where that page has rows that they do not, or lacks one.
//!
//! The one rule that every test holds: **`true` only if the runner's process has read the run
//! (`read`), or its kernel has acknowledged it (`ack`).**

#[path = "../support/binary.rs"]
mod binary;
mod broker;
#[path = "../support/folder.rs"]
mod folder;
mod http;
mod net;
mod noise;
#[path = "../support/pki.rs"]
mod pki;
mod process;
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

/// Where the poll and the dispatch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cores {
    /// On the only worker.
    One,
    /// On two different ones.
    Two,
}

/// What a fault means something for.
#[derive(Clone, Copy)]
enum Scope {
    /// `read`, `ack` and, for contrast, `write`; the first two across workers as well.
    Everything,
    /// `read` and `ack`, each across workers as well.
    Proofs,
    /// Each mode, on one worker.
    Modes,
    /// `read` and `ack`, on one worker.
    ProofsOnOneCore,
    /// Only this mode, on one worker.
    Only(Mode),
}

impl Scope {
    fn cases(self) -> Vec<(Mode, Cores)> {
        use {Cores::*, Mode::*};
        match self {
            Scope::Everything => vec![(Read, One), (Read, Two), (Ack, One), (Ack, Two), (Write, One)],
            Scope::Proofs => vec![(Read, One), (Read, Two), (Ack, One), (Ack, Two)],
            Scope::Modes => vec![(Read, One), (Ack, One), (Write, One)],
            Scope::ProofsOnOneCore => vec![(Read, One), (Ack, One)],
            Scope::Only(mode) => vec![(mode, One)],
        }
    }
}

/// May other tests run beside it?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Others,
    /// It loads the machine, or measures what load would spoil.
    Nobody,
}

/// One fault.
#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    scope: Scope,
    beside: Beside,
    test: fn(&Case),
}

/// A fault in one mode.
struct Case {
    place: usize,
    rows: AtomicUsize,
    noise: Noise,
    mode: Mode,
    workers: Cores,
}

impl Case {
    /// A broker in this case's mode, with as many workers as it takes.
    fn broker(&self) -> Builder {
        Builder::new(self.mode).workers(match self.workers {
            Cores::One => 1,
            Cores::Two => 2,
        })
    }

    /// A supervisor, on the other worker if there are two.
    fn supervisor(&self, broker: &Broker, deployment: &str) -> Supervisor {
        broker.supervisor_elsewhere(deployment)
    }

    /// What this machine may add to a time that the broker bounds; the table shows what it was.
    fn noise(&self) -> Duration {
        self.noise.allowance()
    }

    /// It took as long as the broker bounds it. The broker counts from the beginning of the turn that heard of it, which
    /// on a busy machine may lie before what was sent in that turn.
    fn took_about(&self, took: Duration, bound: Duration) {
        const TURN: Duration = Duration::from_millis(5);
        assert!(took >= bound - TURN && took < bound + self.noise(), "{took:?} for {bound:?}");
    }

    /// Puts an outcome into the table. Every case of a fault records the same rows in the same order.
    fn row(&self, what: &str, told: impl ToString, got: impl ToString, took: impl ToString) {
        let row = self.rows.fetch_add(1, Ordering::Relaxed);
        table::record(Row {
            place: (self.place, row),
            what: what.to_owned(),
            mode: self.mode,
            workers: self.workers,
            told: told.to_string(),
            got: got.to_string(),
            took: took.to_string(),
        });
    }
}

/// Held for reading by tests that bear company, for writing by those that don't.
static COMPANY: RwLock<()> = RwLock::new(());

fn trial(place: usize, fault: Fault, mode: Mode, workers: Cores) -> Trial {
    let suffix = if workers == Cores::Two { "::two_workers" } else { "" };
    let name = format!("{}::{}{suffix}", fault.name, mode.name());
    Trial::test(name, move || {
        let case = Case { place, rows: AtomicUsize::new(0), noise: Noise::listen(), mode, workers };
        match fault.beside {
            Beside::Others => {
                let _company = COMPANY.read();
                (fault.test)(&case);
            }
            Beside::Nobody => {
                let _alone = COMPANY.write();
                (fault.test)(&case);
            }
        }
        Ok(())
    })
}

/// In the order of the table; those that run alone last, so that the others are not held up.
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
    // Most of them wait for time to pass.
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for beside in [Beside::Others, Beside::Nobody] {
        for (place, fault) in faults().into_iter().enumerate().filter(|(_, fault)| fault.beside == beside) {
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
        println!("docs/guarantees.md tells of other faults: PILOTLIGHT_WRITE_GUARANTEES=1 writes these");
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
        let (table, after) = rest.split_once(Page::END).expect("the mark behind the table");
        Page { before: before.to_owned(), table: table.to_owned(), after: after.to_owned() }
    }

    fn write(&self, table: &str) {
        let Page { before, after, .. } = self;
        let text = format!("{before}{}\n{table}\n{}{after}", Page::BEGIN, Page::END);
        std::fs::write(Page::path(), text).expect("docs/guarantees.md");
    }
}
