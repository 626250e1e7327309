//! Machines and links that say nothing: black holes, losses, and what comes after them.

use super::http::{End, Run, Told, read_response};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Fate, Wire};
use super::{Beside, Case, Fault, Mode, Scope};
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "no_fault", scope: Scope::Everything, beside: Beside::Others, test: no_fault },
    Fault { name: "black_hole", scope: Scope::Everything, beside: Beside::Others, test: black_hole },
    Fault { name: "link_down", scope: Scope::Modes, beside: Beside::Others, test: link_down },
    Fault { name: "black_hole_second", scope: Scope::Modes, beside: Beside::Others, test: second_poller },
    Fault {
        name: "black_hole_prompt",
        scope: Scope::ProofsOnOneCore,
        beside: Beside::Nobody,
        test: promptly,
    },
    Fault { name: "three_dead", scope: Scope::ProofsOnOneCore, beside: Beside::Others, test: three_dead },
    Fault { name: "link_heals", scope: Scope::Proofs, beside: Beside::Others, test: link_heals },
    Fault { name: "acks_lost", scope: Scope::ProofsOnOneCore, beside: Beside::Others, test: acks_lost },
    Fault { name: "address_reused", scope: Scope::Everything, beside: Beside::Others, test: address_reused },
    Fault { name: "reset_lost", scope: Scope::ProofsOnOneCore, beside: Beside::Others, test: reset_lost },
    Fault { name: "dead_while_idle", scope: Scope::Only(Mode::Read), beside: Beside::Others, test: reaped },
];

const DEPLOYMENT: &str = "deployment_silence";
/// `--ack-timeout`.
const ACK_TIMEOUT: Duration = Duration::from_millis(300);
/// What a silent machine may cost besides. What else this one does must not spoil all tries.
const PROMPT: Duration = Duration::from_millis(20);
const TRIES: usize = 5;

fn no_fault(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let runner = thread::spawn(move || poller.receive(super::http::PATIENCE));
    let answer = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    case.row("nothing is wrong", answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::True);
    assert!(got.is(&run));
}

/// The broker's only poller is behind a wire that carries nothing any more.
fn black_hole(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.cut();
    let answer = supervisor.dispatch(&run);
    let got = super::http::read_now(&poller.stream);
    case.row("the runner's machine vanishes without a word", answer.told, got.of(&run), time(answer.took));
    // It comes back after a while; TCP has tried again by then.
    thread::sleep(Duration::from_millis(300));
    wire.mend();
    let late = read_response(&poller.stream, Duration::from_millis(1_500));
    case.row("… and comes back half a second later", answer.told, late.of(&run), "");
    if case.mode == Mode::Write {
        return assert_eq!(answer.told, Told::True, "told before anybody could know");
    }
    assert_eq!(answer.told, Told::False);
    case.took_about(answer.took, ACK_TIMEOUT);
    assert_eq!((got.bytes, late.bytes), (0, 0), "nothing is delivered late");
    let sent_late =
        wire.trace(poller.port()).iter().any(|seg| seg.to_runner && !seg.lost && seg.payload_bytes > 0);
    assert!(!sent_late, "nothing was even sent late");
}

/// The same with veth devices and a bridge, where the broker's own link stays up.
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
    case.row("the runner's link goes down", answer.told, got.of(&run), time(answer.took));
    if case.mode == Mode::Write {
        return assert_eq!(answer.told, Told::True);
    }
    assert_eq!(answer.told, Told::False);
    case.took_about(answer.took, ACK_TIMEOUT);
    assert_eq!(got.bytes, 0);
}

/// A live runner waits behind the one that is dead.
fn second_poller(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let live = broker.poll_from(&wire.runner, DEPLOYMENT);
    let dead = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.cut_off(&[dead.port()]);
    let runner = thread::spawn(move || live.receive(Duration::from_secs(1)));
    let answer = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    case.row("… while a second, live runner waits", answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::True);
    if case.mode == Mode::Write {
        return assert_eq!(got.bytes, 0, "the dead one was told of, the live one not");
    }
    assert!(got.is(&run));
    assert!(answer.took < ACK_TIMEOUT + case.noise(), "{:?}", answer.took);
}

/// `--ack-timeout` and 20 ms: that is all that a vanished machine costs, with another runner or without. (The
/// others here allow for a busy machine.)
fn promptly(case: &Case) {
    let took = |alone: bool| {
        let wire = Wire::new();
        let broker = case.broker().on(&wire.broker, BROKER).start();
        let live = (!alone).then(|| broker.poll_from(&wire.runner, DEPLOYMENT));
        let dead = broker.poll_from(&wire.runner, DEPLOYMENT);
        let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
        let run = Run::new(DEPLOYMENT);
        wire.cut_off(&[dead.port()]);
        let runner = thread::spawn(move || live.map(|live| live.receive(Duration::from_secs(1))));
        let answer = supervisor.dispatch(&run);
        let got = runner.join().expect("a runner");
        assert_eq!(answer.told, if alone { Told::False } else { Told::True });
        assert!(got.is_none_or(|got| got.is(&run)));
        answer.took
    };
    for (alone, told, got) in [(true, Told::False, "nothing"), (false, Told::True, "the run")] {
        let mut tries = vec![took(alone)];
        while tries.len() < TRIES && tries.iter().all(|took| *took >= ACK_TIMEOUT + PROMPT) {
            tries.push(took(alone));
        }
        let fastest = tries.iter().min().copied().expect("tries");
        let what = match alone {
            true => "the only runner's machine vanishes: within 20 ms of --ack-timeout, in one of five tries",
            false => "… and a second, live runner waits",
        };
        case.row(what, told, got, time(fastest));
        assert!(fastest <= ACK_TIMEOUT + PROMPT, "{what}: {tries:?}");
    }
}

/// Three dead ones come first: as many as are tried. The live one is the next dispatch's.
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
    let runner = thread::spawn(move || live.receive(Duration::from_secs(1)));
    let second = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    case.row("three vanished runners before a live one", first.told, "nothing", time(first.took));
    case.row("… and the next dispatch", second.told, got.of(&run), time(second.took));
    assert_eq!((first.told, nothing), (Told::False, 0));
    case.took_about(first.took, 3 * ACK_TIMEOUT);
    assert_eq!(second.told, Told::True);
    assert!(got.is(&run));
}

/// Nothing passes for 150 ms: TCP's own retransmission must be waited for.
fn link_heals(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let until = Instant::now() + Duration::from_millis(150);
    wire.law(move |segment| if segment.at < until { Fate::Drop } else { Fate::Pass });
    let runner = thread::spawn(move || poller.receive(Duration::from_secs(2)));
    let answer = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    case.row("the link drops everything for 150 ms and heals", answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::True);
    assert!(got.is(&run));
}

/// The run arrives and is read, but nothing of that gets back: no proof, so no `true`.
fn acks_lost(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.law(|segment| if segment.to_runner { Fate::Pass } else { Fate::Drop });
    let runner = thread::spawn(move || poller.receive(Duration::from_secs(2)));
    let answer = supervisor.dispatch(&run);
    let got = runner.join().expect("a runner");
    let what = "the run arrives, every word of the runner's kernel is lost (no proof of delivery is no proof of none)";
    case.row(what, answer.told, got.of(&run), time(answer.took));
    assert_eq!(answer.told, Told::False);
    case.took_about(answer.took, ACK_TIMEOUT);
}

/// Another machine has the runner's address now, and knows nothing of the connection.
fn address_reused(case: &Case) {
    let mut wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.replace_runner();
    let answer = supervisor.dispatch(&run);
    let got = super::http::read_now(&poller.stream);
    case.row(
        "another machine has taken over the runner's address",
        answer.told,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(got.bytes, 0);
    if case.mode == Mode::Write {
        return assert_eq!(answer.told, Told::True, "told before anybody could know");
    }
    assert_eq!(answer.told, Told::False);
    assert!(answer.took < case.noise(), "the reset says it at once: {:?}", answer.took);
}

/// The runner closes before the run arrives, and the reset that says so is lost.
fn reset_lost(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.law(|segment| if segment.to_runner { Fate::Pass } else { Fate::Drop });
    drop(poller);
    let answer = supervisor.dispatch(&run);
    let what = "the runner has closed, its FIN and its reset are lost";
    case.row(what, answer.told, "nothing", time(answer.took));
    assert_eq!(answer.told, Told::False);
    assert!(answer.took < ACK_TIMEOUT + case.noise(), "{:?}", answer.took);
}

/// Nobody sends a run, so keep-alive must find out.
fn reaped(case: &Case) {
    let wire = Wire::new();
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    wire.cut();
    let cut = Instant::now();
    broker.wait_until("the dead poll is gone", || broker.waiting(DEPLOYMENT) == 0);
    let took = cut.elapsed();
    let mut supervisor = broker.supervisor();
    let answer = supervisor.dispatch(&Run::new(DEPLOYMENT));
    case.row(
        "the runner's machine vanishes while it waits; long after, a run comes",
        answer.told,
        "nothing",
        format!("{}; noticed after {:.1} s", time(answer.took), took.as_secs_f64()),
    );
    assert_eq!(answer.told, Told::False);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(super::http::read_now(&poller.stream).end, End::Silent);
}
