//! Supervisors that go, and a broker that is killed, in the middle of a dispatch.

use super::http::{PATIENCE, Run, Told};
use super::process::Runner;
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Beside, Case, Fault, Mode, Scope};
use nix::sys::signal::Signal;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "supervisor_closes",
        scope: Scope::Proofs,
        beside: Beside::Others,
        test: supervisor_closes,
    },
    Fault {
        name: "supervisor_resets",
        scope: Scope::Proofs,
        beside: Beside::Others,
        test: supervisor_resets,
    },
    Fault { name: "broker_killed", scope: Scope::Proofs, beside: Beside::Others, test: broker_killed },
    Fault {
        name: "broker_killed_silent",
        scope: Scope::ProofsOnOneCore,
        beside: Beside::Others,
        test: killed_silent,
    },
];

const DEPLOYMENT: &str = "deployment_ends";

fn supervisor_closes(case: &Case) {
    supervisor_gone(case, false, "the supervisor closes while its dispatch is under way");
}

fn supervisor_resets(case: &Case) {
    supervisor_gone(case, true, "the supervisor resets while its dispatch is under way");
}

/// The run is with the runner already; a supervisor that comes back finds a broker in order.
fn supervisor_gone(case: &Case, reset: bool, what: &str) {
    let broker = case.broker().start();
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::from_millis(200));
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    if reset {
        let linger = socket2::SockRef::from(&supervisor.stream).set_linger(Some(Duration::ZERO));
        linger.expect("to set SO_LINGER");
    }
    drop(supervisor);
    let said = runner.said();
    case.row(what, "nothing (it is gone)", said.of(&run), "");
    assert!(said.whole(&run), "what was begun is finished: {said:?}");
    broker
        .wait_until("no claim is left", || broker.status()["workers"].to_string().contains("\"claimed\":0"));
    assert_eq!(broker.waiting(DEPLOYMENT), 0);
    let again = broker.poll(DEPLOYMENT);
    let next = std::thread::spawn(move || again.receive(PATIENCE));
    let answer = broker.supervisor().dispatch(&run);
    assert_eq!(answer.told, Told::True, "the next one is served");
    assert!(next.join().expect("a runner").is(&run));
}

/// The run is in the runner's kernel, unread, when the broker dies.
fn broker_killed(case: &Case) {
    let broker = case.broker().start();
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::from_millis(200));
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    broker.signal(Signal::SIGKILL);
    let answer = supervisor.answer(PATIENCE);
    let said = runner.said();
    let when = if answer.told == Told::True { " (before that)" } else { "" };
    let told = format!("{}{when}", answer.told);
    case.row("the broker is killed when the run is in the runner's kernel", told, said.of(&run), "");
    // In `ack` the answer may have been out already, and then it is right.
    match (case.mode, answer.told) {
        (_, Told::NetworkError) => {}
        (Mode::Ack, Told::True) => assert!(said.whole(&run), "{said:?}"),
        (_, told) => panic!("a dead broker said {told}"),
    }
}

/// The runner's machine is gone too: nobody has the run, and nobody says otherwise.
fn killed_silent(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    wire.cut();
    supervisor.ask(&run).expect("to ask");
    std::thread::sleep(Duration::from_millis(50));
    broker.signal(Signal::SIGKILL);
    let answer = supervisor.answer(PATIENCE);
    let got = super::http::read_now(&poller.stream);
    let what = "the broker is killed while it waits for a runner that has vanished";
    case.row(what, answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::NetworkError);
    assert_eq!(got.bytes, 0);
}
