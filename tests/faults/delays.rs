//! The peer's delayed acknowledgement, whose 40 ms must not delay a run.

use super::broker::Broker;
use super::http::{CONNECT, End, Outcome, PATIENCE, Poller, Run, read_response};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Case, Fault, Runs, Scope};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::Duration;

pub const FAULTS: &[Fault] = &[
    Fault { name: "delayed_ack", scope: Scope::Modes, runs: Runs::Alone, test: over_loopback },
    Fault { name: "delayed_ack_veth", scope: Scope::Modes, runs: Runs::Alone, test: over_veth },
    Fault { name: "delayed_ack_wire", scope: Scope::Modes, runs: Runs::Alone, test: over_wire },
    Fault { name: "delayed_ack_long", scope: Scope::Modes, runs: Runs::Alone, test: long_over_wire },
    Fault { name: "delayed_ack_new", scope: Scope::Modes, runs: Runs::Alone, test: new_over_loopback },
    Fault { name: "delayed_ack_new_wire", scope: Scope::Modes, runs: Runs::Alone, test: new_over_wire },
];

const DEPLOYMENT: &str = "deployment_delays";
const RUNS: usize = 80;
/// How often a slow measurement is repeated.
const MEASUREMENTS: usize = 3;
/// The sizes that supervisors send, with a margin.
const USUAL_BYTES: Range<usize> = 900..3_000;
const ALL_BYTES: Range<usize> = 900..9_000;
const LONG_BYTES: Range<usize> = 3_000..9_000;
/// The number of slow runs that the machine may cause. The protocol's delay would slow down every second run.
const NOISE: usize = RUNS / 20;
/// A Linux receiver's delay (TCP_DELACK_MIN).
const DELAYED: Duration = Duration::from_millis(40);

/// The connections that carry the runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Each carried a response before.
    DidConnect,
    /// The run is the first response, which the broker sends in one piece.
    New,
}

/// The path between the broker and the runners.
struct Path<'n> {
    broker: &'n Net,
    runner: &'n Net,
    addr: Ipv4Addr,
    name: &'static str,
}

impl Path<'_> {
    fn loopback(net: &Net) -> Path<'_> {
        Path { broker: net, runner: net, addr: Ipv4Addr::LOCALHOST, name: "loopback" }
    }

    /// Segment by segment, like a network card without offload. A single last segment meets the delay.
    fn wire(wire: &Wire) -> Path<'_> {
        Path { broker: &wire.broker, runner: &wire.runner, addr: BROKER, name: "a wire without offload" }
    }
}

fn over_loopback(case: &Case) {
    runs(case, &Path::loopback(&Net::host()), Streams::DidConnect, ALL_BYTES, NOISE);
}

fn new_over_loopback(case: &Case) {
    runs(case, &Path::loopback(&Net::host()), Streams::New, ALL_BYTES, NOISE);
}

fn over_veth(case: &Case) {
    let (broker, runner) = (Net::new(), Net::new());
    broker.cable("eth0", &runner, "eth0");
    broker.ip("addr add 10.79.0.1/24 dev eth0");
    runner.ip("addr add 10.79.0.2/24 dev eth0");
    let addr = Ipv4Addr::new(10, 79, 0, 1);
    let path = Path { broker: &broker, runner: &runner, addr, name: "veth" };
    runs(case, &path, Streams::DidConnect, ALL_BYTES, NOISE);
}

fn over_wire(case: &Case) {
    runs(case, &Path::wire(&Wire::new()), Streams::DidConnect, USUAL_BYTES, NOISE);
}

fn new_over_wire(case: &Case) {
    runs(case, &Path::wire(&Wire::new()), Streams::New, USUAL_BYTES, NOISE);
}

/// A process that reads while segments arrive makes its kernel acknowledge between two segments of a pair.
/// A single segment may remain at the end: some runs meet the delay, and are delivered.
fn long_over_wire(case: &Case) {
    runs(case, &Path::wire(&Wire::new()), Streams::DidConnect, LONG_BYTES, RUNS / 2);
}

/// Delivers runs of these sizes and checks how many are slow.
fn runs(case: &Case, path: &Path<'_>, streams: Streams, sizes: Range<usize>, delayed_max: usize) {
    let broker = case.broker().on(path.broker, path.addr).start();
    let within = |times: &[Duration]| {
        times[RUNS / 2] < Duration::from_millis(10) && count_of_delayed(times) <= delayed_max
    };
    // A busy machine delays some runs of some measurements. The protocol's delay would show in every one.
    let mut times = measured(&broker, path.runner, streams, &sizes);
    for _ in 1..MEASUREMENTS {
        if !within(&times) {
            times = measured(&broker, path.runner, streams, &sizes);
        }
    }
    let delayed = count_of_delayed(&times);
    let (median, slowest) = (times[RUNS / 2], times[RUNS - 1]);
    let connections = match streams {
        Streams::DidConnect => "connections that did /connect",
        Streams::New => "new connections",
    };
    let what = format!(
        "80 runs of {:.1} to {:.1} KB on {connections}, over {} (delayed acknowledgement)",
        sizes.start as f64 / 1e3,
        sizes.end as f64 / 1e3,
        path.name
    );
    case.row(
        &what,
        Outcome::True,
        "the run",
        format!("half within {}, {delayed} in 40 ms and more, at most {}", time(median), time(slowest)),
    );
    assert!(
        within(&times),
        "{MEASUREMENTS} times: half took {median:?}, {delayed} took {DELAYED:?} or more: {times:?}"
    );
}

fn count_of_delayed(times: &[Duration]) -> usize {
    times.iter().filter(|&&took| took >= DELAYED).count()
}

/// The times of runs of these sizes, sorted.
fn measured(broker: &Broker, runner_net: &Net, streams: Streams, sizes: &Range<usize>) -> Vec<Duration> {
    let mut supervisor = broker.supervisor();
    let mut kept = None;
    let mut times = Vec::new();
    for round in 0..RUNS {
        let stream = kept.take().unwrap_or_else(|| {
            let stream = runner_net.connect(broker.runner).expect("to connect");
            if streams == Streams::DidConnect { connected(stream) } else { stream }
        });
        // Long enough for the kernel to leave quick-ACK mode.
        thread::sleep(Duration::from_millis(3));
        let poller = Poller::on(stream, DEPLOYMENT);
        thread::sleep(Duration::from_millis(2));
        // In mixed order: a receiver expects segments as large as the largest so far.
        let run = Run::sized(DEPLOYMENT, sizes.start + round * 37 % RUNS * (sizes.len() / RUNS));
        let runner = thread::spawn(move || {
            let got = read_response(&poller.stream, PATIENCE);
            let keep = !got.close && streams == Streams::DidConnect;
            (got, keep.then_some(poller.stream))
        });
        let answer = supervisor.dispatch_when_held(&run);
        let (got, stream) = runner.join().expect("a runner");
        assert_eq!(answer.outcome, Outcome::True);
        assert!(got.is(&run), "{}", got.of(&run));
        kept = stream;
        times.push(answer.took);
    }
    times.sort();
    times
}

/// The stream, with `/connect` done on it.
fn connected(mut stream: TcpStream) -> TcpStream {
    stream.write_all(CONNECT).expect("to ask");
    assert_eq!(read_response(&stream, PATIENCE).end, End::Complete);
    stream
}
