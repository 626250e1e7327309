//! Runners that half-close, read slowly or not at all, and runs that do not fit into one segment.

use super::http::{End, Outcome, PATIENCE, Poller, Run, poll_request, read_response, read_slowly};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Fate, Wire};
use super::{Case, Fault, Mode, Runs, Scope};
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault { name: "half_closed_first", scope: Scope::Modes, runs: Runs::Parallel, test: half_closed_first },
    Fault {
        name: "half_closed_waiting",
        scope: Scope::Modes,
        runs: Runs::Parallel,
        test: half_closed_waiting,
    },
    Fault { name: "half_closed_unread", scope: Scope::Modes, runs: Runs::Parallel, test: half_closed_unread },
    Fault { name: "never_reads", scope: Scope::Everything, runs: Runs::Parallel, test: never_reads },
    Fault { name: "zero_window", scope: Scope::Proofs, runs: Runs::Parallel, test: zero_window },
    Fault { name: "slow_reader", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: slow_reader },
    Fault { name: "sizes", scope: Scope::Proofs, runs: Runs::Parallel, test: sizes },
    Fault { name: "large_and_small", scope: Scope::Proofs, runs: Runs::Parallel, test: large_and_small },
    Fault { name: "last_byte", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: last_byte },
];

/// Long timeouts for tests that do not check times, so that a busy machine does not fail a delivery.
const PATIENT: &str = "--ack-timeout 3s --read-timeout 5s --dispatch-timeout 20s";
const DEPLOYMENT: &str = "deployment_readers";

/// A poll whose FIN arrives with the request.
fn half_closed_first(case: &Case) {
    let broker = case.broker().start();
    let mut stream = broker.connect();
    let before = broker.counter("polls_left");
    stream.write_all(&poll_request(DEPLOYMENT, "controller_1", "node_1")).expect("to poll");
    stream.shutdown(Shutdown::Write).expect("to half-close");
    let end = read_response(&stream, PATIENCE);
    let answer = broker.supervisor().dispatch(&Run::new(DEPLOYMENT));
    case.row(
        "a poll with its FIN right behind (half-close)",
        answer.outcome,
        "nothing (closed)",
        time(answer.took),
    );
    assert_eq!(end.end, End::Closed, "a poll that can't be confirmed is not held");
    assert_eq!(answer.outcome, Outcome::False);
    assert!(broker.counter("polls_left") - before <= 1);
}

fn half_closed_waiting(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    poller.stream.shutdown(Shutdown::Write).expect("to half-close");
    let end = read_response(&poller.stream, PATIENCE);
    let answer = broker.supervisor().dispatch(&Run::new(DEPLOYMENT));
    case.row("the runner half-closes while it waits", answer.outcome, "nothing (closed)", time(answer.took));
    assert_eq!(end.end, End::Closed);
    assert_eq!(answer.outcome, Outcome::False);
}

/// shutdown(2) with the run unread: the only FIN that does not prove a read.
fn half_closed_unread(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    poller.stream.peek(&mut [0]).expect("the run has arrived");
    poller.stream.shutdown(Shutdown::Write).expect("to half-close");
    let answer = supervisor.answer(PATIENCE);
    let got = poller.receive(PATIENCE);
    let what = "the runner half-closes with the run in its kernel, and reads it later";
    case.row(what, answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True, "no runner does this: see what is not guaranteed");
}

/// A run of 2 MB for a runner that reads nothing.
fn never_reads(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::sized(DEPLOYMENT, 2 << 20);
    let answer = supervisor.dispatch(&run);
    case.row(
        "a run of 2 MiB, of which the runner reads nothing",
        answer.outcome,
        "nothing",
        time(answer.took),
    );
    if case.mode != Mode::Write {
        assert_eq!(answer.outcome, Outcome::False);
        assert!(answer.took < Duration::from_secs(2) + case.noise(), "{:?}", answer.took);
    }
    drop(poller);
}

/// A receive buffer of a few KB, and a runner that pauses before it reads.
fn zero_window(case: &Case) {
    let broker = case.broker().start();
    let poller = Poller::on(connect_with_buffer(&broker.net, broker.runner, 2_048), DEPLOYMENT);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::sized(DEPLOYMENT, 256 << 10);
    let (answer, got) = supervisor.deliver(&run, move || {
        poller.stream.peek(&mut [0]).expect("the run's beginning has arrived");
        thread::sleep(Duration::from_millis(250));
        poller.receive(PATIENCE)
    });
    let what = "a run of 256 KiB through a receive window that is shut for 250 ms";
    case.row(what, answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// A runner that reads all the time, but takes a second for the run.
fn slow_reader(case: &Case) {
    let broker = case.broker().start();
    let stream = connect_with_buffer(&broker.net, broker.runner, 16 << 10);
    let poller = Poller::on(stream, DEPLOYMENT);
    broker.wait_for_polls(DEPLOYMENT, 1);
    let mut supervisor = broker.supervisor();
    let run = Run::sized(DEPLOYMENT, 512 << 10);
    let pause = Duration::from_millis(25);
    let (answer, got) = supervisor.deliver(&run, move || read_slowly(&poller.stream, 16 << 10, pause));
    case.row("a run of 512 KiB for a slow reader", answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

fn connect_with_buffer(net: &Net, broker: SocketAddr, bytes: usize) -> TcpStream {
    net.enter(|| {
        let socket = Socket::new(Domain::for_address(broker), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("a small buffer");
        socket.connect(&broker.into()).expect("to connect");
        socket.into()
    })
}

/// Sizes around a segment, a socket's buffer and a MiB.
fn sizes(case: &Case) {
    let broker = case.broker().args(PATIENT).start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    drop(poller);
    let mut slowest = Duration::ZERO;
    let sizes = [537, 1_073, 1_449, 2_920, 65_536, 65_537, 300_000, 1 << 20, (1 << 20) + 1, 4 << 20];
    for size in sizes {
        broker.wait_for_polls(DEPLOYMENT, 0);
        let poller = broker.poll(DEPLOYMENT);
        let run = Run::sized(DEPLOYMENT, size);
        let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
        assert_eq!(answer.outcome, Outcome::True, "{size}");
        assert!(got.is(&run), "{size}: {}", got.of(&run));
        slowest = slowest.max(answer.took);
    }
    case.row("runs of 0.5 KB to 4 MiB", Outcome::True, "the run", format!("at most {}", time(slowest)));
}

/// The last segment of a large run is lost for good; everything before it is acknowledged and read.
fn last_byte(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = broker.supervisor();
    let run = Run::sized(DEPLOYMENT, 1 << 20);
    let port = poller.port();
    let mut origin = None;
    wire.set_rule(move |segment| {
        if !segment.to_runner || segment.port != port || segment.payload_bytes == 0 {
            return Fate::Pass;
        }
        let origin = *origin.get_or_insert(segment.seq);
        let past = segment.seq.wrapping_sub(origin) as usize + segment.payload_bytes;
        if past > 1 << 20 { Fate::Drop } else { Fate::Pass }
    });
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
    case.row(
        "a run of 1 MiB whose last segment is lost for good",
        answer.outcome,
        "all but its end",
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::False);
    assert!(!got.is(&run));
    assert!(answer.took < Duration::from_secs(2) + case.noise(), "{:?}", answer.took);
}

/// A large run to a distant runner does not delay small runs.
fn large_and_small(case: &Case) {
    let wire = Wire::long(Duration::from_millis(10));
    let broker = case.broker().on(&wire.broker, BROKER).args(PATIENT).start();
    let distant = broker.poll_from(&wire.runner, "deployment_distant");
    let mut asks_large = case.supervisor(&broker, "deployment_distant");
    let large = Run::sized("deployment_distant", 2 << 20);
    let near = broker.poll(DEPLOYMENT);
    let mut asks_small = case.supervisor(&broker, DEPLOYMENT);
    drop(near);
    let under_way = AtomicBool::new(true);
    let (answer, got, mut times) = thread::scope(|scope| {
        let runner = scope.spawn(move || distant.receive(PATIENCE));
        let beside = scope.spawn(|| {
            let mut times = Vec::new();
            while under_way.load(Ordering::Relaxed) {
                let poller = Poller::on(broker.connect(), DEPLOYMENT);
                thread::sleep(Duration::from_millis(2));
                let run = Run::new(DEPLOYMENT);
                let runner = thread::spawn(move || poller.receive(PATIENCE));
                let answer = asks_small.dispatch_when_held(&run);
                times.push(answer.took);
                assert_eq!(answer.outcome, Outcome::True);
                assert!(runner.join().expect("a runner").is(&run));
            }
            times
        });
        let answer = asks_large.dispatch(&large);
        under_way.store(false, Ordering::Relaxed);
        (answer, runner.join().expect("a runner"), beside.join().expect("the others"))
    });
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    case.row("a run of 2 MiB over a wire of 10 ms", answer.outcome, got.of(&large), time(answer.took));
    let took = format!("half within {}, at most {}", time(median), time(slowest));
    case.row("… and small ones beside it", Outcome::True, "the run", took);
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&large));
    assert!(slowest < answer.took, "a small run waited for the large one: {slowest:?}");
}
