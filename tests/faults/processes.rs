//! Runner processes that are killed, stopped or busy while their kernel goes on for them.

use super::broker::looks;
use super::http::{PATIENCE, Run, Told};
use super::process::Runner;
use super::table::time;
use super::{Beside, Case, Fault, Mode, Scope};
use nix::sys::signal::Signal;
use std::thread;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault { name: "killed_waiting", scope: Scope::Modes, beside: Beside::Others, test: killed_waiting },
    Fault { name: "killed_unread", scope: Scope::Everything, beside: Beside::Others, test: killed_unread },
    Fault { name: "stopped", scope: Scope::Everything, beside: Beside::Others, test: stopped },
    Fault {
        name: "stopped_second",
        scope: Scope::ProofsOnOneCore,
        beside: Beside::Others,
        test: second_runner,
    },
    Fault { name: "deadline", scope: Scope::ProofsOnOneCore, beside: Beside::Others, test: deadline },
    Fault { name: "busy", scope: Scope::Everything, beside: Beside::Others, test: busy },
];

const DEPLOYMENT: &str = "deployment_processes";
/// `--read-timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

fn killed_waiting(case: &Case) {
    let broker = case.broker().start();
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::ZERO);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = broker.heard_supervisor();
    runner.kill();
    let answer = supervisor.dispatch(&Run::new(DEPLOYMENT));
    case.row("the runner is killed while it waits", answer.told, "nothing", time(answer.took));
    assert_eq!(answer.told, Told::False);
}

/// Its kernel has the run, the process has not.
fn killed_unread(case: &Case) {
    let broker = case.broker().start();
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, PATIENCE);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    supervisor.ask(&Run::new(DEPLOYMENT)).expect("to ask");
    runner.reached();
    runner.kill();
    let answer = supervisor.answer(PATIENCE);
    case.row(
        "the runner is killed when the run has reached its kernel",
        answer.told,
        "nothing",
        time(answer.took),
    );
    match case.mode {
        Mode::Read => assert_eq!(answer.told, Told::False),
        // The kernel had it; the reset that came behind is as true.
        Mode::Ack if looks() => assert!([Told::True, Told::False].contains(&answer.told), "{}", answer.told),
        Mode::Ack | Mode::Write => assert_eq!(answer.told, Told::True, "its kernel had it"),
    }
    assert!(answer.took < READ_TIMEOUT, "the reset says it at once: {:?}", answer.took);
}

/// SIGSTOP, a paused machine, a frozen cgroup: the kernel acknowledges for ever.
fn stopped(case: &Case) {
    let broker = case.broker().start();
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::ZERO);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    runner.freeze();
    let answer = supervisor.dispatch(&run);
    case.row("the runner is stopped (SIGSTOP)", answer.told, "nothing", time(answer.took));
    runner.thaw();
    let said = runner.said();
    case.row("… and continued after the answer", answer.told, said.of(&run), "");
    if case.mode != Mode::Read {
        assert!(said.whole(&run), "{said:?}");
        return assert_eq!(answer.told, Told::True, "its kernel had it");
    }
    assert_eq!(answer.told, Told::False);
    case.took_about(answer.took, READ_TIMEOUT);
    // What the process gets in the end is not asserted: its kernel had the bytes before our reset
    // came, and whether it still hands them out is the kernel's affair. The table says what it did.
}

/// A stopped runner costs one read timeout; the next poll gets the run.
fn second_runner(case: &Case) {
    let broker = case.broker().start();
    let live = broker.poll(DEPLOYMENT);
    let stopped = Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::ZERO);
    broker.wait_for_polls(DEPLOYMENT, 2);
    stopped.signal(Signal::SIGSTOP);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let runner = thread::spawn(move || live.receive(Duration::from_millis(1_500)));
    let answer = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    let got_by = format!("the second: {}", got.of(&run));
    case.row("the runner is stopped, a second one waits", answer.told, got_by, time(answer.took));
    assert_eq!(answer.told, Told::True);
    if case.mode == Mode::Read {
        assert!(got.is(&run));
        case.took_about(answer.took, READ_TIMEOUT);
    }
}

/// Two stopped runners use up the dispatch's time (`--dispatch-timeout`, 2 s); a third is not tried.
fn deadline(case: &Case) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let broker = case.broker().start();
    let live = broker.poll(DEPLOYMENT);
    let start = || Runner::start(&broker.net, broker.runner, DEPLOYMENT, Duration::ZERO);
    let mut stopped = [start(), start()];
    broker.wait_for_polls(DEPLOYMENT, 3);
    stopped.iter().for_each(Runner::freeze);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let answer = supervisor.dispatch(&run);
    stopped.iter().for_each(Runner::thaw);
    let got = stopped[1].said().of(&run);
    let what = "two stopped runners until the dispatch's time is over; they are continued later";
    case.row(what, answer.told, format!("{got}, late"), time(answer.took));
    if case.mode != Mode::Read {
        return assert_eq!(answer.told, Told::True, "its kernel had it");
    }
    assert_eq!(answer.told, Told::False);
    case.took_about(answer.took, DEADLINE);
    let runner = thread::spawn(move || live.receive(PATIENCE));
    assert_eq!(supervisor.dispatch(&run).told, Told::True, "the live one is there for the next");
    assert!(runner.join().expect("a runner").is(&run));
}

/// A blocked event loop, a garbage collection: not frozen, only late.
fn busy(case: &Case) {
    let broker = case.broker().start();
    let busy = Duration::from_millis(200);
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, busy);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let answer = supervisor.dispatch(&run);
    let said = runner.said();
    case.row("the runner's event loop is blocked for 200 ms", answer.told, said.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::True);
    assert!(said.whole(&run), "{said:?}");
    if case.mode == Mode::Read {
        assert!(answer.took >= busy, "true when it was read: {:?}", answer.took);
    }
}
