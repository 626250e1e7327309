//! Supervisors that disconnect, and a broker that is killed, during a dispatch.

use super::http::{Outcome, PATIENCE, Run};
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Case, Fault, Mode, Runs, Scope};
use nix::sys::signal::Signal;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault { name: "supervisor_closes", scope: Scope::Proofs, runs: Runs::Parallel, test: supervisor_closes },
    Fault { name: "supervisor_resets", scope: Scope::Proofs, runs: Runs::Parallel, test: supervisor_resets },
    Fault { name: "broker_killed", scope: Scope::Proofs, runs: Runs::Parallel, test: broker_killed },
    Fault {
        name: "broker_killed_silent",
        scope: Scope::ProofsOnOneWorker,
        runs: Runs::Parallel,
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

/// The run has reached the runner. The broker must serve the next dispatch as usual.
fn supervisor_gone(case: &Case, reset: bool, what: &str) {
    let broker = case.broker().start();
    let mut runner = broker.start_runner(DEPLOYMENT, Duration::from_millis(200));
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    if reset {
        let linger = socket2::SockRef::from(&supervisor.stream).set_linger(Some(Duration::ZERO));
        linger.expect("to set SO_LINGER");
    }
    drop(supervisor);
    let received = runner.received();
    case.row(what, "nothing (it is gone)", received.of(&run), "");
    assert!(received.whole(&run), "the delivery is finished: {received:?}");
    broker
        .wait_until("no claim is left", || broker.status()["workers"].to_string().contains("\"claimed\":0"));
    assert_eq!(broker.waiting(DEPLOYMENT), 0);
    let again = broker.poll(DEPLOYMENT);
    let next = std::thread::spawn(move || again.receive(PATIENCE));
    let answer = broker.supervisor().dispatch(&run);
    assert_eq!(answer.outcome, Outcome::True, "the next one is served");
    assert!(next.join().expect("a runner").is(&run));
}

/// The run is in the runner's kernel, unread, when the broker dies.
fn broker_killed(case: &Case) {
    let broker = case.broker().start();
    let mut runner = broker.start_runner(DEPLOYMENT, Duration::from_millis(200));
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    broker.signal(Signal::SIGKILL);
    let answer = supervisor.answer(PATIENCE);
    let received = runner.received();
    let when = if answer.outcome == Outcome::True { " (before that)" } else { "" };
    let outcome = format!("{}{when}", answer.outcome);
    case.row("the broker is killed when the run is in the runner's kernel", outcome, received.of(&run), "");
    // With `ack` the broker may have answered before, and then the answer is right.
    match (case.mode, answer.outcome) {
        (_, Outcome::NetworkError) => {}
        (Mode::Ack, Outcome::True) => assert!(received.whole(&run), "{received:?}"),
        (_, outcome) => panic!("a killed broker answered {outcome}"),
    }
}

/// The runner's machine is gone too: no runner has the run, and no answer claims that one does.
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
    case.row(what, answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::NetworkError);
    assert_eq!(got.bytes, 0);
}
