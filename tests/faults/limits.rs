//! Limits of time and of descriptors: polls at their timeout, second polls, slow and silent clients, and a
//! broker without free descriptors.

use super::broker::on_io_uring;
use super::http::{CONNECT, End, Outcome, PATIENCE, Poller, Run, poll_request, read_now, read_response};
use super::table::time;
use super::{Case, Fault, Mode, Runs, Scope};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "guard", scope: Scope::Proofs, runs: Runs::Parallel, test: guard },
    Fault { name: "expired", scope: Scope::Only(Mode::Read), runs: Runs::Parallel, test: expired },
    Fault { name: "stale_twin", scope: Scope::Proofs, runs: Runs::Parallel, test: stale_twin },
    Fault {
        name: "slow_requests",
        scope: Scope::Only(Mode::Read),
        runs: Runs::Parallel,
        test: slow_requests,
    },
    Fault { name: "preconnected", scope: Scope::Only(Mode::Read), runs: Runs::Parallel, test: preconnected },
    Fault { name: "full", scope: Scope::Only(Mode::Read), runs: Runs::Parallel, test: full },
    Fault { name: "descriptors", scope: Scope::ProofsOnOneWorker, runs: Runs::Alone, test: descriptors },
];

const DEPLOYMENT: &str = "deployment_limits";

/// A poll with a timeout of 2 s is parked for its last 200 ms.
fn guard(case: &Case) {
    let broker = case.broker().args("--connection-timeout 2s").start();
    let polled = Instant::now();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    sleep_until(polled + Duration::from_millis(1_850));
    let answer = supervisor.dispatch(&run);
    let got = read_now(&poller.stream);
    case.row(
        "a run comes 150 ms before the runner's timeout",
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::False);
    assert_eq!((got.bytes, got.end), (0, End::Silent), "the poll is left alone");
}

/// The broker closes a poll after its timeout and never answers it.
fn expired(case: &Case) {
    let broker = case.broker().args("--connection-timeout 1s").start();
    let polled = Instant::now();
    let poller = Poller::on(broker.connect(), DEPLOYMENT);
    let end = poller.receive(PATIENCE);
    let took = polled.elapsed();
    let answer = broker.supervisor().dispatch(&Run::new(DEPLOYMENT));
    let noticed = format!("{}; closed after {}", time(answer.took), time(took));
    case.row("a poll of 1 s whose runner does not end it", answer.outcome, "nothing (closed)", noticed);
    assert_eq!((end.end, end.bytes), (End::Closed, 0));
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_100) + case.noise(), "{took:?}");
    assert_eq!(answer.outcome, Outcome::False);
}

/// A runner with two connections: it polls again before the broker sees the end of the old one.
fn stale_twin(case: &Case) {
    let broker = case.broker().start();
    let old = broker.poll(DEPLOYMENT);
    let new = broker.poll(DEPLOYMENT);
    broker.wait_for_polls(DEPLOYMENT, 2);
    drop(old);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || new.receive(PATIENCE));
    case.row(
        "the runner polls again, then its old connection ends",
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// An incomplete head, a trickle and an incomplete body.
fn slow_requests(case: &Case) {
    let broker = case.broker().args("--request-timeout 500ms").start();
    let head = poll_request(DEPLOYMENT, "controller_1", "node_1");
    let dispatch = Run::new(DEPLOYMENT).request();
    let half = |bytes: &[u8]| {
        let mut stream = broker.connect();
        stream.write_all(&bytes[..bytes.len() / 2]).expect("to write");
        (stream, Instant::now())
    };
    let (half_head, half_body) = (half(&head), half(&dispatch));
    let mut trickling = half(&head[..2]);
    let trickled = thread::spawn(move || {
        for byte in &head[1..] {
            if trickling.0.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let end = read_response(&trickling.0, PATIENCE);
        (end, trickling.1.elapsed())
    });
    let mut ends = Vec::new();
    for (stream, since) in [half_head, half_body] {
        ends.push((read_response(&stream, PATIENCE), since.elapsed()));
    }
    ends.push(trickled.join().expect("a client"));
    let slowest = ends.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let what = "requests whose bytes don't come within 500 ms: half a head, a trickle, half a body";
    case.row(what, "nothing (closed)", "nothing (closed)", format!("at most {}", time(slowest)));
    for (end, took) in &ends {
        assert_eq!(end.bytes, 0, "an incomplete request may be a poll, and a runner survives only a close");
        assert!(*took >= Duration::from_millis(500), "{took:?}");
    }
    assert!(ends[0].1.max(ends[1].1) < Duration::from_millis(500) + case.noise(), "{ends:?}");
    assert!(broker.counter("requests_timed_out") == 3);
}

/// Connections that clients open early: kept for a poll, closed when none arrives.
fn preconnected(case: &Case) {
    let broker = case.broker().args("--preconnect-timeout 1s").start();
    let (silent, early, mut served) = (broker.connect(), broker.connect(), broker.connect());
    let opened = Instant::now();
    served.write_all(CONNECT).expect("to ask");
    assert_eq!(read_response(&served, PATIENCE).end, End::Complete);
    sleep_until(opened + Duration::from_millis(700));
    let poller = Poller::on(early, DEPLOYMENT);
    let end = read_response(&silent, PATIENCE);
    let closed_after = opened.elapsed();
    sleep_until(opened + Duration::from_millis(1_500));
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = broker.supervisor().deliver(&run, move || poller.receive(PATIENCE));
    let what = "a connection opened 0.7 s ahead of its poll (a silent one is reaped after 1 s)";
    case.row(
        what,
        answer.outcome,
        got.of(&run),
        format!("{}; reaped after {}", time(answer.took), time(closed_after)),
    );
    assert_eq!((end.end, end.bytes), (End::Closed, 0));
    assert!(
        closed_after >= Duration::from_millis(990) && closed_after < Duration::from_secs(1) + case.noise(),
        "{closed_after:?}"
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
    assert_eq!(
        read_now(&served).end,
        End::Silent,
        "a used connection stays open longer than the client's 4 s"
    );
}

/// A broker with few descriptors first evicts the oldest silent connections, then refuses new ones.
fn full(case: &Case) {
    let broker = case.broker().descriptors(200).start();
    let mut supervisor = broker.supervisor();
    supervisor.dispatch(&Run::new(DEPLOYMENT));
    let silent: Vec<_> = (0..150).map(|_| broker.connect()).collect();
    broker.wait_until("all are accepted", || broker.counter("accepted") == 151);
    let evicted = broker.counter("evicted");
    let poller = broker.poll(DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
    case.row("150 silent connections where 96 fit", answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(read_response(&silent[0], PATIENCE).end, End::Closed, "the oldest is evicted");
    assert_eq!(read_now(&silent[149]).end, End::Silent, "the newest stays");
    assert!(evicted >= 50, "{evicted}");
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
    drop(silent);
    broker.wait_until("all are closed", || broker.counter("closed") >= 151);

    let polls: Vec<_> = (0..120).map(|_| Poller::on(broker.connect(), DEPLOYMENT)).collect();
    broker.wait_until("all are accepted or refused", || broker.counter("accepted") == 151 + 1 + 120);
    let held = broker.waiting(DEPLOYMENT);
    let ends: Vec<_> = polls.iter().map(|poller| read_now(&poller.stream)).collect();
    let closed = ends.iter().filter(|end| end.end != End::Silent).count() as u64;
    assert_eq!(held + closed, 120, "each is held, or closed without an answer");
    assert!(ends.iter().all(|end| end.bytes == 0));
    let runners: Vec<_> =
        polls.into_iter().map(|poll| thread::spawn(move || poll.receive(PATIENCE))).collect();
    let outcomes: Vec<Outcome> = (0..20).map(|_| supervisor.dispatch(&run).outcome).collect();
    drop(supervisor);
    drop(broker);
    let got = runners.into_iter().map(|runner| runner.join().expect("a runner"));
    let got = got.filter(|got| got.is(&run)).count();
    case.row("120 polls where 96 fit, 20 runs", outcomes[0], "the run (20), or closed without an answer", "");
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::True), "{outcomes:?}");
    assert_eq!(got, 20);
}

/// A running broker without a free descriptor serves its connections, does not spin, and recovers.
fn descriptors(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let before = broker.counter("accepted");
    broker.limit_descriptors(broker.open_files());
    let crowd: Vec<_> = (0..30).map(|_| broker.connect()).collect();
    thread::sleep(Duration::from_millis(100));
    let cpu = broker.cpu_time();
    let began = Instant::now();
    let run = Run::new(DEPLOYMENT);
    let runner = thread::spawn(move || {
        let got = read_response(&poller.stream, PATIENCE);
        // Keeps the descriptor in use.
        thread::sleep(Duration::from_millis(if got.close { 0 } else { 1_500 }));
        got
    });
    let answer = supervisor.dispatch(&run);
    sleep_until(began + Duration::from_secs(1));
    let spent = broker.cpu_time() - cpu;
    broker.limit_descriptors(1_000);
    let freed = Instant::now();
    broker.wait_until("the queue is accepted", || broker.counter("accepted") >= before + 30);
    let took = freed.elapsed();
    let got = runner.join().expect("a runner");
    let failures = broker.counter("accept_errors");
    let next = broker.poll("deployment_after");
    let after = thread::spawn(move || next.receive(PATIENCE));
    let later = supervisor.dispatch(&Run::new("deployment_after"));
    after.join().expect("a runner");
    let what = "no descriptor left, 30 connections queue";
    let took = format!(
        "{}; {} of processor time in 1 s; recovered in {}",
        time(answer.took),
        time(spent),
        time(took)
    );
    case.row(what, answer.outcome, got.of(&run), took);
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
    // An io_uring accept in progress keeps the limit that applied when it started.
    assert!(failures > 0 || on_io_uring(), "the broker counts failed accepts");
    assert!(spent < Duration::from_millis(200), "the broker spins: {spent:?}");
    assert_eq!(later.outcome, Outcome::True);
    drop(crowd);
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}
