//! Attacks on every side of the broker, while 100 honest runners keep getting their runs.
//!
//! Real sockets, the broker as its own process. Honest clients connect from 127.0.0.1, the attacker from
//! 127.0.0.66.
//!
//! ```text
//! cargo test --test siege              all attacks, and the table of their outcomes
//! cargo test --test siege slowloris    attacks with this in their name
//! PILOTLIGHT_ENGINE=io-uring ...       on another engine
//! TEST_SECCOMP=1 ...                   with the workers' system calls filtered
//! PILOTLIGHT_WRITE_SECURITY=1 ...      write the table to docs/security.md
//! ```

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod crowds;
mod forgery;
mod honest;
mod sizes;
mod stealing;
mod table;

use honest::Fleet;
use libtest_mimic::{Arguments, Trial};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use support::broker::Broker;
use support::client::Client;
use table::Row;

/// The attacker's address.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// An attack.
#[derive(Clone, Copy)]
struct Attack {
    /// The test's name.
    name: &'static str,
    /// What the attacker tries, for the table.
    what: &'static str,
    /// The flags of the broker that matter here.
    flags: &'static str,
    /// Runs the attack, asserts that it fails, and returns its outcome for the table.
    run: fn(&Scene) -> String,
}

/// A broker under attack, and its honest clients.
struct Scene {
    broker: Broker,
    fleet: Fleet,
}

impl Scene {
    /// The attacker's connection to the runner side.
    fn attacker(&self) -> Client {
        Client::connect_from(ATTACKER, self.broker.runner).expect("connected")
    }

    /// The attacker's connection to the dispatch side.
    fn attacker_of_dispatch(&self) -> Client {
        Client::connect_from(ATTACKER, self.broker.dispatch).expect("connected")
    }
}

fn trial(place: usize, attack: Attack) -> Trial {
    Trial::test(attack.name, move || {
        let broker = Broker::start(&format!("--workers 2 {}", attack.flags));
        let fleet = Fleet::start(&broker, attack.flags.contains("--token-mode"));
        fleet.wait_for_rounds(1);
        let scene = Scene { broker, fleet };
        let outcome = (attack.run)(&scene);
        // The honest clients still run, and each gets a run after the attack.
        scene.fleet.wait_for_rounds(1);
        let Scene { broker, fleet } = scene;
        let seen = fleet.stop();
        assert_eq!(seen.closed, 0, "an honest poll was closed: {seen:?}");
        assert!(seen.late <= 2 + seen.runs / 50, "too many late connections: {seen:?}");
        table::record(Row { place, what: attack.what, flags: attack.flags, outcome, runs: seen.runs });
        drop(broker);
        Ok(())
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: each attack loads the machine, and all use the same address.
    arguments.test_threads = Some(1);
    let attacks =
        [stealing::ATTACKS, forgery::ATTACKS, admin::ATTACKS, crowds::ATTACKS, sizes::ATTACKS].concat();
    let trials = attacks.into_iter().enumerate().map(|(place, attack)| trial(place, attack)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{}", table::plain());
    }
    let whole = conclusion.num_filtered_out == 0 && !conclusion.has_failed();
    if std::env::var_os("PILOTLIGHT_WRITE_SECURITY").is_some() && whole {
        write_table();
    }
    conclusion.exit_code()
}

/// Replaces the table in docs/security.md.
fn write_table() {
    const BEGIN: &str = "<!-- Written by tests/siege: do not edit from here -->\n";
    const END: &str = "<!-- to here -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&path).expect("docs/security.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (_, after) = rest.split_once(END).expect("the mark after the table");
    let table = table::markdown();
    std::fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}")).expect("docs/security.md");
}
