//! Shutdown by SIGTERM, and cordons of a node or a deployment.

use super::http::{End, Outcome, PATIENCE, Poller, Response, Run, poll_request, read_now, read_response};
use super::table::time;
use super::{Case, Fault, Mode, Runs, Scope};
use nix::sys::signal::Signal;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "shutdown", scope: Scope::Proofs, runs: Runs::Parallel, test: shutdown },
    Fault {
        name: "second_sigterm",
        scope: Scope::Only(Mode::Read),
        runs: Runs::Parallel,
        test: second_sigterm,
    },
    Fault { name: "cordon_node", scope: Scope::Proofs, runs: Runs::Parallel, test: cordon_node },
    Fault { name: "cordon_deployment", scope: Scope::Proofs, runs: Runs::Parallel, test: cordon_deployment },
];

const DEPLOYMENT: &str = "deployment_shutdown";
const OTHER: &str = "deployment_other";

/// SIGTERM with a run being delivered, ten held polls and an idle supervisor.
fn shutdown(case: &Case) {
    const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
    let broker = case.broker().args("--shutdown-time 2s").start();
    let busy = Duration::from_millis(300);
    let mut runner = broker.start_runner(DEPLOYMENT, busy);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let mut idle = broker.supervisor();
    idle.dispatch(&Run::new("deployment_without_runner"));
    let polls: Vec<Poller> = (0..10).map(|_| Poller::on(broker.connect(), OTHER)).collect();
    broker.wait_for_polls(OTHER, 10);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    let under_way = thread::spawn(move || (supervisor.answer(PATIENCE), runner.received()));

    broker.signal(Signal::SIGTERM);
    let signalled = Instant::now();
    let ends: Vec<_> = polls.into_iter().map(|poll| thread::spawn(move || ended(poll, signalled))).collect();
    while broker.admin("GET", "/readyz", "").0 != 503 {
        assert!(signalled.elapsed() < Duration::from_secs(1), "/readyz is still 200");
    }
    let unready = signalled.elapsed();
    // The workers learn of it a moment later.
    thread::sleep(Duration::from_millis(50));
    let refused = idle.dispatch(&Run::new(OTHER));
    let (under_way, received) = under_way.join().expect("a supervisor");
    let refuses = broker.net.connect(broker.runner).is_err();
    let ends: Vec<(Response, Duration)> = ends.into_iter().map(|end| end.join().expect("a runner")).collect();
    let status = broker.wait(Duration::from_secs(10));
    let took = signalled.elapsed();

    case.row("SIGTERM: the dispatch under way", under_way.outcome, received.of(&run), time(under_way.took));
    case.row("… a dispatch after it", refused.outcome, "nothing", time(refused.took));
    let (first, last) = (ends.iter().map(|end| end.1).min(), ends.iter().map(|end| end.1).max());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let spread = format!("from {} to {}; exit after {}", time(first), time(last), time(took));
    case.row("… ten held polls, --shutdown-time 2s", "nothing", "nothing (closed)", spread);
    assert_eq!(under_way.outcome, Outcome::True, "a claimed run is delivered");
    assert!(received.whole(&run), "{received:?}");
    assert_eq!(refused.outcome, Outcome::False);
    assert!(refused.took < case.noise() && unready < case.noise(), "{refused:?} {unready:?}");
    assert!(refuses, "the listener is still open");
    assert!(ends.iter().all(|(end, _)| end.bytes == 0 && end.end == End::Closed), "{ends:?}");
    let spread = last - first;
    assert!(
        spread > SHUTDOWN_TIME / 2 && last < SHUTDOWN_TIME + case.noise(),
        "not spread over the shutdown time: {spread:?}"
    );
    assert_eq!(status.code(), Some(0));
    assert!(took < SHUTDOWN_TIME + Duration::from_millis(500) + case.noise(), "{took:?}");
}

fn ended(poll: Poller, since: Instant) -> (Response, Duration) {
    let end = poll.receive(PATIENCE);
    (end, since.elapsed())
}

fn second_sigterm(case: &Case) {
    let broker = case.broker().args("--shutdown-time 30s").start();
    let polls: Vec<Poller> = (0..10).map(|_| Poller::on(broker.connect(), OTHER)).collect();
    broker.wait_for_polls(OTHER, 10);
    broker.signal(Signal::SIGTERM);
    while broker.admin("GET", "/readyz", "").0 != 503 {}
    // A terminal and its shell may both send a signal for one Ctrl-C: the broker counts them as one.
    thread::sleep(Duration::from_millis(600));
    let again = Instant::now();
    broker.signal(Signal::SIGTERM);
    let status = broker.wait(Duration::from_secs(5));
    let took = again.elapsed();
    case.row("a second SIGTERM", "network error", "nothing (closed)", format!("exit after {}", time(took)));
    assert_eq!(status.code(), Some(143));
    assert!(took < case.noise(), "{took:?}");
    let bytes: usize = polls.into_iter().map(|poll| poll.receive(PATIENCE).bytes).sum();
    assert_eq!(bytes, 0, "a poll was answered");
}

fn cordon_node(case: &Case) {
    cordon(case, "{\"node\":\"node_old\"}", (DEPLOYMENT, "node_old"), (DEPLOYMENT, "node_new"), "node");
}

fn cordon_deployment(case: &Case) {
    cordon(
        case,
        "{\"deployment\":\"deployment_shutdown\"}",
        (DEPLOYMENT, "node_1"),
        (OTHER, "node_1"),
        "deployment",
    );
}

/// A cordon closes the target's held polls and gives its new polls no run. Other polls are not affected.
fn cordon(case: &Case, target: &str, inside: (&str, &str), outside: (&str, &str), of: &str) {
    let broker = case.broker().start();
    let poll = |(deployment, node): (&str, &str)| {
        let before = broker.status()["waiting"].as_u64().expect("a number");
        let mut stream = broker.connect();
        stream.write_all(&poll_request(deployment, "controller_1", node)).expect("to poll");
        broker.wait_until("one more poll is held", || broker.status()["waiting"] == before + 1);
        stream
    };
    let (kept, closed) = (poll(outside), poll(inside));
    let mut supervisor = case.supervisor(&broker, inside.0);
    let (status, cordons) = broker.admin("POST", "/cordon", target);
    assert_eq!(status, 200, "{cordons}");
    assert_eq!(read_response(&closed, PATIENCE).end, End::Closed, "a poll inside the cordon stays open");
    assert_eq!(read_now(&kept).end, End::Silent, "a poll outside the cordon is closed");

    let back = poll(inside);
    let run = Run::new(outside.0);
    let (answer, got) = supervisor.deliver(&run, move || read_response(&kept, PATIENCE));
    case.row(
        &format!("cordon by {of}: a run for a runner outside it"),
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));

    let run = Run::new(inside.0);
    let answer = supervisor.dispatch(&run);
    case.row(
        &format!("cordon by {of}: a run for a new poll inside it"),
        answer.outcome,
        "nothing",
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::False);
    assert_eq!(read_now(&back).end, End::Silent, "it is held, not closed");

    let (status, cordons) = broker.admin("DELETE", "/cordon", target);
    assert_eq!((status, cordons["cordons"].as_array().map(Vec::len)), (200, Some(0)), "{cordons}");
    let (answer, got) = supervisor.deliver(&run, move || read_response(&back, PATIENCE));
    case.row(&format!("cordon by {of}: after uncordon"), answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}
