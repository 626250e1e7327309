//! Silent machines and links: black holes, losses and their ends.

use super::broker::Broker;
use super::http::{End, Outcome, PATIENCE, Poller, Run, Supervisor, read_response};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Fate, Wire};
use super::{Case, Fault, Mode, Runs, Scope};
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "no_fault", scope: Scope::Everything, runs: Runs::Parallel, test: no_fault },
    Fault { name: "black_hole", scope: Scope::Everything, runs: Runs::Parallel, test: black_hole },
    Fault { name: "link_down", scope: Scope::Modes, runs: Runs::Parallel, test: link_down },
    Fault { name: "black_hole_second", scope: Scope::Modes, runs: Runs::Parallel, test: second_poller },
    Fault { name: "black_hole_prompt", scope: Scope::ProofsOnOneWorker, runs: Runs::Alone, test: promptly },
    Fault { name: "three_dead", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: three_dead },
    Fault { name: "link_heals", scope: Scope::Proofs, runs: Runs::Parallel, test: link_heals },
    Fault { name: "acks_lost", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: acks_lost },
    Fault { name: "address_reused", scope: Scope::Everything, runs: Runs::Parallel, test: address_reused },
    Fault { name: "reset_lost", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: reset_lost },
    Fault { name: "dead_while_idle", scope: Scope::Only(Mode::Read), runs: Runs::Parallel, test: reaped },
];

const DEPLOYMENT: &str = "deployment_silence";
/// `--ack-timeout`.
const ACK_TIMEOUT: Duration = Duration::from_millis(300);
/// How much longer than `--ack-timeout` a silent machine may delay a dispatch. Other load may spoil some
/// tries, but not all.
const PROMPT: Duration = Duration::from_millis(20);
const TRIES: usize = 5;

/// A runner behind a wire, a broker that holds its poll, a supervisor and a run.
struct Scene {
    wire: Wire,
    broker: Broker,
    poller: Poller,
    supervisor: Supervisor,
    run: Run,
}

impl Scene {
    fn new(case: &Case) -> Scene {
        let wire = Wire::new();
        let broker = case.broker().on(&wire.broker, BROKER).start();
        let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
        let supervisor = case.supervisor(&broker, DEPLOYMENT);
        Scene { wire, broker, poller, supervisor, run: Run::new(DEPLOYMENT) }
    }
}

fn no_fault(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
    case.row("nothing is wrong", answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// The only runner is behind a cut wire.
fn black_hole(case: &Case) {
    let Scene { wire, broker: _broker, poller, mut supervisor, run } = Scene::new(case);
    wire.cut();
    let answer = supervisor.dispatch(&run);
    let got = super::http::read_now(&poller.stream);
    case.row("the runner's machine vanishes without a word", answer.outcome, got.of(&run), time(answer.took));
    // The wire is mended after TCP has retransmitted.
    thread::sleep(Duration::from_millis(300));
    wire.mend();
    let late = read_response(&poller.stream, Duration::from_millis(1_500));
    case.row("… and comes back half a second later", answer.outcome, late.of(&run), "");
    if case.mode == Mode::Write {
        return assert_eq!(answer.outcome, Outcome::True, "answered before any proof");
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, ACK_TIMEOUT);
    assert_eq!((got.bytes, late.bytes), (0, 0), "nothing is delivered late");
    let sent_late =
        wire.trace(poller.port()).iter().any(|seg| seg.to_runner && !seg.lost && seg.payload_bytes > 0);
    assert!(!sent_late, "no byte was sent late");
}

/// The runner's link goes down behind a bridge; the broker's own link stays up.
fn link_down(case: &Case) {
    let (broker_net, switch, runner_net) = (Net::new(), Net::new(), Net::new());
    switch.ip("link add bridge0 type bridge");
    switch.cable("port1", &broker_net, "eth0");
    switch.cable("port2", &runner_net, "eth0");
    switch.ip("link set port1 master bridge0");
    switch.ip("link set port2 master bridge0");
    switch.ip("link set bridge0 up");
    broker_net.ip("addr add 10.78.0.1/24 dev eth0");
    runner_net.ip("addr add 10.78.0.2/24 dev eth0");
    let broker = case.broker().on(&broker_net, Ipv4Addr::new(10, 78, 0, 1)).start();
    let poller = broker.poll_from(&runner_net, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    switch.ip("link set port2 down");
    let answer = supervisor.dispatch(&run);
    let got = super::http::read_now(&poller.stream);
    case.row("the runner's link goes down", answer.outcome, got.of(&run), time(answer.took));
    if case.mode == Mode::Write {
        return assert_eq!(answer.outcome, Outcome::True);
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, ACK_TIMEOUT);
    assert_eq!(got.bytes, 0);
}

/// A dead runner is tried first, then a live one.
fn second_poller(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let live = broker.poll_from(&wire.runner, DEPLOYMENT);
    let dead = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.cut_off(&[dead.port()]);
    let (answer, got) = supervisor.deliver(&run, move || live.receive(Duration::from_secs(1)));
    case.row("… while a second, live runner waits", answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    if case.mode == Mode::Write {
        return assert_eq!(got.bytes, 0, "with `write` the live runner gets nothing");
    }
    assert!(got.is(&run));
    assert!(answer.took < ACK_TIMEOUT + case.noise(), "{:?}", answer.took);
}

/// A vanished machine costs at most `--ack-timeout` plus 20 ms, with another runner or without one. (The other
/// tests allow for a busy machine.)
fn promptly(case: &Case) {
    let took = |alone: bool| {
        let wire = Wire::new();
        let broker = case.broker().on(&wire.broker, BROKER).start();
        let live = (!alone).then(|| broker.poll_from(&wire.runner, DEPLOYMENT));
        let dead = broker.poll_from(&wire.runner, DEPLOYMENT);
        let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
        let run = Run::new(DEPLOYMENT);
        wire.cut_off(&[dead.port()]);
        let (answer, got) =
            supervisor.deliver(&run, move || live.map(|live| live.receive(Duration::from_secs(1))));
        assert_eq!(answer.outcome, if alone { Outcome::False } else { Outcome::True });
        assert!(got.is_none_or(|got| got.is(&run)));
        answer.took
    };
    for (alone, outcome, got) in [(true, Outcome::False, "nothing"), (false, Outcome::True, "the run")] {
        let mut tries = vec![took(alone)];
        while tries.len() < TRIES && tries.iter().all(|took| *took >= ACK_TIMEOUT + PROMPT) {
            tries.push(took(alone));
        }
        let fastest = tries.iter().min().copied().expect("tries");
        let what = match alone {
            true => "the only runner's machine vanishes: within 20 ms of --ack-timeout, in one of five tries",
            false => "… and a second, live runner waits",
        };
        case.row(what, outcome, got, time(fastest));
        assert!(fastest <= ACK_TIMEOUT + PROMPT, "{what}: {tries:?}");
    }
}

/// Three dead runners use up the three attempts. The next dispatch gets the live one.
fn three_dead(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let live = broker.poll_from(&wire.runner, DEPLOYMENT);
    let dead: Vec<_> = (0..3).map(|_| broker.poll_from(&wire.runner, DEPLOYMENT)).collect();
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.cut_off(&dead.iter().map(|poller| poller.port()).collect::<Vec<_>>());
    let first = supervisor.dispatch(&run);
    let nothing = dead.iter().map(|poller| super::http::read_now(&poller.stream).bytes).sum::<usize>();
    let (second, got) = supervisor.deliver(&run, move || live.receive(Duration::from_secs(1)));
    case.row("three vanished runners before a live one", first.outcome, "nothing", time(first.took));
    case.row("… and the next dispatch", second.outcome, got.of(&run), time(second.took));
    assert_eq!((first.outcome, nothing), (Outcome::False, 0));
    case.took_about(first.took, 3 * ACK_TIMEOUT);
    assert_eq!(second.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// Nothing passes for 150 ms: the broker must wait for TCP's retransmission.
fn link_heals(case: &Case) {
    let Scene { wire, broker: _broker, poller, mut supervisor, run } = Scene::new(case);
    let until = Instant::now() + Duration::from_millis(150);
    wire.set_rule(move |segment| if segment.at < until { Fate::Drop } else { Fate::Pass });
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(Duration::from_secs(2)));
    case.row(
        "the link drops everything for 150 ms and heals",
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// The runner reads the run, but its packets are lost: without proof the answer is not `true`.
fn acks_lost(case: &Case) {
    let Scene { wire, broker: _broker, poller, mut supervisor, run } = Scene::new(case);
    wire.set_rule(|segment| if segment.to_runner { Fate::Pass } else { Fate::Drop });
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(Duration::from_secs(2)));
    let what = "the run arrives, every word of the runner's kernel is lost (no proof of delivery is no proof of none)";
    case.row(what, answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, ACK_TIMEOUT);
}

/// Another machine has the runner's address and does not know the connection.
fn address_reused(case: &Case) {
    let Scene { mut wire, broker: _broker, poller, mut supervisor, run } = Scene::new(case);
    wire.replace_runner();
    let answer = supervisor.dispatch(&run);
    let got = super::http::read_now(&poller.stream);
    case.row(
        "another machine has taken over the runner's address",
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(got.bytes, 0);
    if case.mode == Mode::Write {
        return assert_eq!(answer.outcome, Outcome::True, "answered before any proof");
    }
    assert_eq!(answer.outcome, Outcome::False);
    assert!(answer.took < case.noise(), "a reset ends the attempt immediately: {:?}", answer.took);
}

/// The runner closes before the run arrives, and its reset is lost.
fn reset_lost(case: &Case) {
    let Scene { wire, broker: _broker, poller, mut supervisor, run } = Scene::new(case);
    wire.set_rule(|segment| if segment.to_runner { Fate::Pass } else { Fate::Drop });
    drop(poller);
    let answer = supervisor.dispatch(&run);
    let what = "the runner has closed, its FIN and its reset are lost";
    case.row(what, answer.outcome, "nothing", time(answer.took));
    assert_eq!(answer.outcome, Outcome::False);
    assert!(answer.took < ACK_TIMEOUT + case.noise(), "{:?}", answer.took);
}

/// Without a dispatch, TCP keep-alive must detect the dead runner.
fn reaped(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    wire.cut();
    let cut = Instant::now();
    broker.wait_until("the dead poll is closed", || broker.waiting(DEPLOYMENT) == 0);
    let took = cut.elapsed();
    let mut supervisor = broker.supervisor();
    let answer = supervisor.dispatch(&Run::new(DEPLOYMENT));
    case.row(
        "the runner's machine vanishes while it waits; long after, a run comes",
        answer.outcome,
        "nothing",
        format!("{}; noticed after {:.1} s", time(answer.took), took.as_secs_f64()),
    );
    assert_eq!(answer.outcome, Outcome::False);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(super::http::read_now(&poller.stream).end, End::Silent);
}
