//! Runner processes that are killed, stopped or busy while their kernel goes on.

use super::broker::checks_acks;
use super::http::{Outcome, PATIENCE, Run};
use super::process::Runner;
use super::table::time;
use super::{Case, Fault, Mode, Runs, Scope};
use nix::sys::signal::Signal;
use std::thread;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault { name: "killed_waiting", scope: Scope::Modes, runs: Runs::Parallel, test: killed_waiting },
    Fault { name: "killed_unread", scope: Scope::Everything, runs: Runs::Parallel, test: killed_unread },
    Fault { name: "stopped", scope: Scope::Everything, runs: Runs::Parallel, test: stopped },
    Fault {
        name: "stopped_second",
        scope: Scope::ProofsOnOneWorker,
        runs: Runs::Parallel,
        test: second_runner,
    },
    Fault { name: "deadline", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: deadline },
    Fault { name: "busy", scope: Scope::Everything, runs: Runs::Parallel, test: busy },
];

const DEPLOYMENT: &str = "deployment_processes";
/// `--read-timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

fn killed_waiting(case: &Case) {
    let broker = case.broker().start();
    let mut runner = broker.start_runner(DEPLOYMENT, Duration::ZERO);
    let mut supervisor = broker.used_supervisor();
    runner.kill();
    let answer = supervisor.dispatch(&Run::new(DEPLOYMENT));
    case.row("the runner is killed while it waits", answer.outcome, "nothing", time(answer.took));
    assert_eq!(answer.outcome, Outcome::False);
}

/// The kernel has received the run, the process has not read it.
fn killed_unread(case: &Case) {
    let broker = case.broker().start();
    let mut runner = broker.start_runner(DEPLOYMENT, PATIENCE);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    supervisor.ask(&Run::new(DEPLOYMENT)).expect("to ask");
    runner.reached();
    runner.kill();
    let answer = supervisor.answer(PATIENCE);
    case.row(
        "the runner is killed when the run has reached its kernel",
        answer.outcome,
        "nothing",
        time(answer.took),
    );
    match case.mode {
        Mode::Read => assert_eq!(answer.outcome, Outcome::False),
        // The kernel had the run. If the broker sees the reset first, false is right too.
        Mode::Ack if checks_acks() => {
            assert!([Outcome::True, Outcome::False].contains(&answer.outcome), "{}", answer.outcome)
        }
        Mode::Ack | Mode::Write => assert_eq!(answer.outcome, Outcome::True, "its kernel had it"),
    }
    assert!(answer.took < READ_TIMEOUT, "a reset ends the attempt immediately: {:?}", answer.took);
}

/// SIGSTOP, as for a paused machine or a frozen cgroup: the kernel still acknowledges.
fn stopped(case: &Case) {
    let broker = case.broker().start();
    let mut runner = broker.start_runner(DEPLOYMENT, Duration::ZERO);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    runner.freeze();
    let answer = supervisor.dispatch(&run);
    case.row("the runner is stopped (SIGSTOP)", answer.outcome, "nothing", time(answer.took));
    runner.thaw();
    let received = runner.received();
    case.row("… and continued after the answer", answer.outcome, received.of(&run), "");
    if case.mode != Mode::Read {
        assert!(received.whole(&run), "{received:?}");
        return assert_eq!(answer.outcome, Outcome::True, "its kernel had it");
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, READ_TIMEOUT);
    // There is no assertion about what the process reads in the end. Its kernel had the bytes before the
    // broker's reset and may still deliver them. The table shows what it did.
}

/// A stopped runner costs one read timeout; then the next poll gets the run.
fn second_runner(case: &Case) {
    let broker = case.broker().start();
    let live = broker.poll(DEPLOYMENT);
    let stopped = broker.start_runner(DEPLOYMENT, Duration::ZERO);
    stopped.signal(Signal::SIGSTOP);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || live.receive(Duration::from_millis(1_500)));
    let got_by = format!("the second: {}", got.of(&run));
    case.row("the runner is stopped, a second one waits", answer.outcome, got_by, time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    if case.mode == Mode::Read {
        assert!(got.is(&run));
        case.took_about(answer.took, READ_TIMEOUT);
    }
}

/// Two stopped runners use up the dispatch's time (`--dispatch-timeout`, 2 s); the broker does not try a third.
fn deadline(case: &Case) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let broker = case.broker().start();
    let live = broker.poll(DEPLOYMENT);
    let mut stopped = [(); 2].map(|()| broker.start_runner(DEPLOYMENT, Duration::ZERO));
    stopped.iter().for_each(Runner::freeze);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let answer = supervisor.dispatch(&run);
    stopped.iter().for_each(Runner::thaw);
    let got = stopped[1].received().of(&run);
    let what = "two stopped runners until the dispatch's time is over; they are continued later";
    case.row(what, answer.outcome, format!("{got}, late"), time(answer.took));
    if case.mode != Mode::Read {
        return assert_eq!(answer.outcome, Outcome::True, "its kernel had it");
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, DEADLINE);
    let runner = thread::spawn(move || live.receive(PATIENCE));
    assert_eq!(supervisor.dispatch(&run).outcome, Outcome::True, "the live runner gets the next run");
    assert!(runner.join().expect("a runner").is(&run));
}

/// A late runner, as with a blocked event loop or a garbage collection.
fn busy(case: &Case) {
    let broker = case.broker().start();
    let busy = Duration::from_millis(200);
    let mut runner = broker.start_runner(DEPLOYMENT, busy);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let answer = supervisor.dispatch(&run);
    let received = runner.received();
    case.row(
        "the runner's event loop is blocked for 200 ms",
        answer.outcome,
        received.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(received.whole(&run), "{received:?}");
    if case.mode == Mode::Read {
        assert!(answer.took >= busy, "answered before the runner read it: {:?}", answer.took);
    }
}
