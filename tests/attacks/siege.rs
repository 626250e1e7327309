//! The attacks: whoever reaches the runner side, or all that a stranger can reach, tries to take what is
//! not his, while 100 honest runners go on getting their runs.
//!
//! Real sockets, the broker as a process of its own. Honest clients come from 127.0.0.1, the attacker
//! from 127.0.0.66.
//!
//! ```text
//! cargo test --test siege                     all, and the table of what they came to
//! cargo test --test siege slowloris           those with this in their name
//! PILOTLIGHT_ENGINE=io-uring ...                on another engine
//! TEST_SECCOMP=1 ...                      with the workers' system calls filtered
//! PILOTLIGHT_WRITE_SECURITY=1 ...               and write the table to docs/security.md
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

/// Where the attacker is.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// One attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Its test's name.
    pub name: &'static str,
    /// For the table: what is tried.
    pub what: &'static str,
    /// The broker's flags that matter.
    pub flags: &'static str,
    /// Tries it, asserts that it fails, and says what came of it.
    pub run: fn(&Scene) -> String,
}

/// A broker under attack, with its honest clients at work.
pub struct Scene {
    /// Under attack.
    pub broker: Broker,
    /// At work.
    pub fleet: Fleet,
}

impl Scene {
    /// The attacker's connection to the runner side.
    pub fn attacker(&self) -> Client {
        Client::connect_from(ATTACKER, self.broker.runner).expect("connected")
    }

    /// The attacker's connection to where dispatches are taken.
    pub fn attacker_of_dispatch(&self) -> Client {
        Client::connect_from(ATTACKER, self.broker.dispatch).expect("connected")
    }
}

fn trial(place: usize, attack: Attack) -> Trial {
    Trial::test(attack.name, move || {
        let broker = Broker::start(&format!("--workers 2 {}", attack.flags));
        let fleet = Fleet::start(&broker, attack.flags.contains("--token-mode"));
        fleet.wait_for_rounds(1);
        let scene = Scene { broker, fleet };
        let came_to = (attack.run)(&scene);
        // They did not stop, and every one of them gets a run after the attack has done what it could.
        scene.fleet.wait_for_rounds(1);
        let Scene { broker, fleet } = scene;
        let told = fleet.stop();
        assert_eq!(told.closed, 0, "no honest poll is closed: {told:?}");
        assert!(told.late <= 2 + told.runs / 50, "nor are many excused: {told:?}");
        table::record(Row { place, what: attack.what, flags: attack.flags, came_to, runs: told.runs });
        drop(broker);
        Ok(())
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each loads the machine, and all of them use the attacker's address.
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
    const BEGIN: &str = "<!-- Written by tests/attacks/siege.rs: do not edit from here -->\n";
    const END: &str = "<!-- to here -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(&path).expect("docs/security.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
    let (_, after) = rest.split_once(END).expect("the mark behind the table");
    let table = table::markdown();
    std::fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}")).expect("docs/security.md");
}
