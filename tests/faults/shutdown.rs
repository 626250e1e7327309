//! Going away on purpose: SIGTERM, and runs kept away from a node or a deployment.

use super::http::{End, PATIENCE, Poller, Response, Run, Told, poll_request, read_now, read_response};
use super::process::Runner;
use super::table::time;
use super::{Beside, Case, Fault, Mode, Scope};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "drain", scope: Scope::Proofs, beside: Beside::Others, test: drain },
    Fault { name: "told_twice", scope: Scope::Only(Mode::Read), beside: Beside::Others, test: told_twice },
    Fault { name: "cordon_node", scope: Scope::Proofs, beside: Beside::Others, test: cordon_node },
    Fault {
        name: "cordon_deployment",
        scope: Scope::Proofs,
        beside: Beside::Others,
        test: cordon_deployment,
    },
];

const DEPLOYMENT: &str = "deployment_drain";
const OTHER: &str = "deployment_other";

/// SIGTERM with a dispatch under way, ten polls held, a supervisor idle and a connection unused.
fn drain(case: &Case) {
    const DRAIN_TIME: Duration = Duration::from_secs(2);
    let broker = case.broker().args("--shutdown-time 2s").start();
    let busy = Duration::from_millis(300);
    let mut runner = Runner::start(&broker.net, broker.runner, DEPLOYMENT, busy);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let mut idle = broker.supervisor();
    idle.dispatch(&Run::new("deployment_nobody"));
    let polls: Vec<Poller> = (0..10).map(|_| Poller::on(broker.connect(), OTHER)).collect();
    broker.wait_for_polls(OTHER, 10);
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    runner.reached();
    let under_way = thread::spawn(move || (supervisor.answer(PATIENCE), runner.said()));

    broker.signal(Signal::SIGTERM);
    let told_to = Instant::now();
    let ends: Vec<_> = polls.into_iter().map(|poll| thread::spawn(move || ended(poll, told_to))).collect();
    while broker.admin("GET", "/readyz", "").0 != 503 {
        assert!(told_to.elapsed() < Duration::from_secs(1), "still ready");
    }
    let unready = told_to.elapsed();
    // The workers are told within a moment of that.
    thread::sleep(Duration::from_millis(50));
    let refused = idle.dispatch(&Run::new(OTHER));
    let (under_way, said) = under_way.join().expect("a supervisor");
    let refuses = broker.net.connect(broker.runner).is_err();
    let ends: Vec<(Response, Duration)> = ends.into_iter().map(|end| end.join().expect("a runner")).collect();
    let status = broker.wait(Duration::from_secs(10));
    let took = told_to.elapsed();

    case.row("SIGTERM: the dispatch under way", under_way.told, said.of(&run), time(under_way.took));
    case.row("… a dispatch after it", refused.told, "nothing", time(refused.took));
    let (first, last) = (ends.iter().map(|end| end.1).min(), ends.iter().map(|end| end.1).max());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let spread = format!("from {} to {}; exit after {}", time(first), time(last), time(took));
    case.row("… ten held polls, --shutdown-time 2s", "nothing", "nothing (closed)", spread);
    assert_eq!(under_way.told, Told::True, "what was claimed finishes");
    assert!(said.whole(&run), "{said:?}");
    assert_eq!(refused.told, Told::False);
    assert!(refused.took < case.noise() && unready < case.noise(), "{refused:?} {unready:?}");
    assert!(refuses, "nobody listens any more");
    assert!(ends.iter().all(|(end, _)| end.bytes == 0 && end.end == End::Closed), "{ends:?}");
    let spread = last - first;
    assert!(
        spread > DRAIN_TIME / 2 && last < DRAIN_TIME + case.noise(),
        "spread over the drain time: {spread:?}"
    );
    assert_eq!(status.code(), Some(0));
    assert!(took < DRAIN_TIME + Duration::from_millis(500) + case.noise(), "{took:?}");
}

fn ended(poll: Poller, since: Instant) -> (Response, Duration) {
    let end = poll.receive(PATIENCE);
    (end, since.elapsed())
}

fn told_twice(case: &Case) {
    let broker = case.broker().args("--shutdown-time 30s").start();
    let polls: Vec<Poller> = (0..10).map(|_| Poller::on(broker.connect(), OTHER)).collect();
    broker.wait_for_polls(OTHER, 10);
    broker.signal(Signal::SIGTERM);
    while broker.admin("GET", "/readyz", "").0 != 503 {}
    // A terminal and its shell may both pass on one Ctrl-C: the broker takes that for one.
    thread::sleep(Duration::from_millis(600));
    let again = Instant::now();
    broker.signal(Signal::SIGTERM);
    let status = broker.wait(Duration::from_secs(5));
    let took = again.elapsed();
    case.row("a second SIGTERM", "network error", "nothing (closed)", format!("exit after {}", time(took)));
    assert_eq!(status.code(), Some(143));
    assert!(took < case.noise(), "{took:?}");
    let bytes: usize = polls.into_iter().map(|poll| poll.receive(PATIENCE).bytes).sum();
    assert_eq!(bytes, 0, "closed, not answered");
}

fn cordon_node(case: &Case) {
    cordon(case, "{\"instance\":\"node_old\"}", (DEPLOYMENT, "node_old"), (DEPLOYMENT, "node_new"), "node");
}

fn cordon_deployment(case: &Case) {
    cordon(
        case,
        "{\"deployment\":\"deployment_drain\"}",
        (DEPLOYMENT, "node_1"),
        (OTHER, "node_1"),
        "deployment",
    );
}

/// Held polls of the target are closed, new ones held without a run; others don't notice.
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
    let (status, drains) = broker.admin("POST", "/cordon", target);
    assert_eq!(status, 200, "{drains}");
    assert_eq!(read_response(&closed, PATIENCE).end, End::Closed, "its polls are closed");
    assert_eq!(read_now(&kept).end, End::Silent, "others are not");

    let back = poll(inside);
    let run = Run::new(outside.0);
    let got = receiving(kept, || supervisor.dispatch(&run));
    let answer = got.0;
    case.row(
        &format!("cordon by {of}: a run for a runner outside it"),
        answer.told,
        got.1.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.told, Told::True);
    assert!(got.1.is(&run));

    let run = Run::new(inside.0);
    let answer = supervisor.dispatch(&run);
    case.row(
        &format!("cordon by {of}: a run for a new poll inside it"),
        answer.told,
        "nothing",
        time(answer.took),
    );
    assert_eq!(answer.told, Told::False);
    assert_eq!(read_now(&back).end, End::Silent, "it is held, not closed");

    let (status, drains) = broker.admin("DELETE", "/cordon", target);
    assert_eq!((status, drains["cordons"].as_array().map(Vec::len)), (200, Some(0)), "{drains}");
    let (answer, got) = receiving(back, || supervisor.dispatch(&run));
    case.row(&format!("cordon by {of}: after uncordon"), answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::True);
    assert!(got.is(&run));
}

/// Does `work` while somebody reads from `stream`.
fn receiving<T>(stream: TcpStream, work: impl FnOnce() -> T) -> (T, Response) {
    thread::scope(|scope| {
        let runner = scope.spawn(move || read_response(&stream, PATIENCE));
        let result = work();
        (result, runner.join().expect("a runner"))
    })
}
