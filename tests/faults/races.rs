//! Races: a runner closes or resets within microseconds of the broker's write.

use super::broker::{Broker, on_io_uring, through_the_ring};
use super::http::{Answer, Outcome, PATIENCE, Poller, Run, Supervisor, read_now};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Case, Fault, Mode, Runs, Scope, Workers};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "fin_before", scope: Scope::Everything, runs: Runs::Parallel, test: fin_before },
    Fault { name: "fin_after", scope: Scope::Modes, runs: Runs::Parallel, test: fin_after },
    Fault { name: "fin_race", scope: Scope::Everything, runs: Runs::Parallel, test: fin_race },
    Fault { name: "reset_race", scope: Scope::Everything, runs: Runs::Parallel, test: reset_race },
    Fault { name: "fin_crossing", scope: Scope::Modes, runs: Runs::Parallel, test: fin_crossing },
];

const DEPLOYMENT: &str = "deployment_races";
const ROUNDS: u32 = 400;
/// Long enough for bytes over loopback to reach the other kernel, on a busy machine too.
const QUEUED: Duration = Duration::from_millis(30);

/// The FIN reaches the broker's kernel before the dispatch. The broker sees both at the same time.
fn fin_before(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    broker.freeze();
    drop(poller);
    thread::sleep(QUEUED);
    supervisor.ask(&run).expect("to ask");
    thread::sleep(QUEUED);
    let (answer, took) = answer_after_thaw(&broker, &mut supervisor);
    case.row("the runner's FIN is queued, then a dispatch", answer.outcome, "nothing", time(took));
    // With two workers the broker may handle the dispatch first, as in the next test.
    assert!(answer.outcome == Outcome::False || case.mode == Mode::Write && case.workers == Workers::Two);
}

/// The dispatch reaches the broker's kernel before the FIN. The broker writes to a closed socket, and its
/// kernel accepts the bytes.
fn fin_after(case: &Case) {
    let broker = case.broker().start();
    let poller = broker.poll(DEPLOYMENT);
    let mut supervisor = case.supervisor(&broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    broker.freeze();
    supervisor.ask(&run).expect("to ask");
    thread::sleep(QUEUED);
    drop(poller);
    thread::sleep(QUEUED);
    let (answer, took) = answer_after_thaw(&broker, &mut supervisor);
    case.row("a dispatch is queued, then the runner's FIN", answer.outcome, "nothing", time(took));
    match case.mode {
        // io_uring may still report the FIN first.
        Mode::Write => assert!(
            answer.outcome == Outcome::True || on_io_uring(),
            "the broker's kernel accepted the bytes"
        ),
        Mode::Read | Mode::Ack => assert_eq!(answer.outcome, Outcome::False),
    }
}

/// The answer, and the time to it from the broker's thaw.
fn answer_after_thaw(broker: &Broker, supervisor: &mut Supervisor) -> (Answer, Duration) {
    let thawed = Instant::now();
    broker.thaw();
    let answer = supervisor.answer(PATIENCE);
    (answer, thawed.elapsed())
}

/// The outcomes of `ROUNDS` races.
#[derive(Default)]
struct Tally {
    true_and_read: u32,
    true_and_unread: u32,
    false_and_read: u32,
    false_and_unread: u32,
    /// Answered true without an ACK of all bytes, or false with such an ACK.
    against_the_wire: u32,
    slowest: Duration,
}

/// Races over a wire that records segments, or over loopback, which is faster.
fn race(case: &Case, reset: bool) -> Tally {
    let wire = (case.workers == Workers::One).then(Wire::new);
    let (broker, runner_net) = match &wire {
        Some(wire) => (case.broker().on(&wire.broker, BROKER).start(), wire.runner.clone()),
        None => (case.broker().start(), Net::host()),
    };
    let mut supervisor = broker.supervisor();
    let head_bytes = head_bytes(&mut supervisor, &runner_net, broker.runner);
    let mut tally = Tally::default();
    let mut random = Random(0x5eed);
    for round in 0..ROUNDS {
        let run = Run::sized(DEPLOYMENT, 1_000 + (round as usize * 37) % 3_000);
        // More of the races end close to the write.
        let offset = Duration::from_micros(u64::from(random.below(30)).pow(2));
        let raced = race_once(&mut supervisor, &runner_net, broker.runner, &run, offset, reset);
        let Round { outcome, read, port, took } = raced;
        match (outcome, read) {
            (Outcome::True, true) => tally.true_and_read += 1,
            (Outcome::True, false) => tally.true_and_unread += 1,
            (Outcome::False, true) => tally.false_and_read += 1,
            (Outcome::False, false) => tally.false_and_unread += 1,
            (outcome, _) => panic!("round {round}: the supervisor was answered {outcome}"),
        }
        if let Some(wire) = &wire {
            let acked = wire.acked_bytes(port) >= head_bytes + run.message.len();
            let is_against = match outcome {
                Outcome::True => !acked,
                // Acknowledged, and reset before the broker checked: false is right too. (A close with the run
                // unread is a reset.) Through the ring the broker always sees the ACK.
                _ => acked && (through_the_ring() || !wire.was_reset(port)),
            };
            if is_against {
                eprintln!("round {round}: answered {outcome} in {took:?}, acked {}", wire.describe(port));
            }
            tally.against_the_wire += u32::from(is_against);
        }
        tally.slowest = tally.slowest.max(took);
    }
    tally
}

/// The length of a response's head, which is the same for all messages of 1,000 to 9,999 bytes.
fn head_bytes(supervisor: &mut Supervisor, net: &Net, broker: SocketAddr) -> usize {
    let poller = Poller::on(net.connect(broker).expect("to connect"), DEPLOYMENT);
    let runner = thread::spawn(move || poller.receive(PATIENCE));
    let answer = supervisor.dispatch_when_held(&Run::sized(DEPLOYMENT, 1_000));
    assert_eq!(answer.outcome, Outcome::True);
    let got = runner.join().expect("a runner");
    got.bytes - got.body.len()
}

struct Round {
    outcome: Outcome,
    read: bool,
    port: u16,
    took: Duration,
}

fn race_once(
    supervisor: &mut Supervisor,
    net: &Net,
    broker: SocketAddr,
    run: &Run,
    offset: Duration,
    reset: bool,
) -> Round {
    let poller = Poller::on(net.connect(broker).expect("to connect"), DEPLOYMENT);
    let port = poller.port();
    // The poll is held by then, so that only the connection's end races.
    let start = Instant::now() + Duration::from_millis(1);
    thread::scope(|scope| {
        let runner = scope.spawn(move || {
            spin_until(start + offset);
            end(poller.stream, run, reset)
        });
        spin_until(start);
        let answer = supervisor.dispatch(run);
        let read = runner.join().expect("a runner");
        Round { outcome: answer.outcome, read, port, took: answer.took }
    })
}

/// Reads the bytes that have arrived, then ends the connection. Returns whether it was the whole run.
fn end(stream: TcpStream, run: &Run, reset: bool) -> bool {
    let response = read_now(&stream);
    if reset {
        let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        linger.expect("to set SO_LINGER");
    }
    drop(stream);
    response.is(run)
}

fn row(case: &Case, what: &str, tally: &Tally) {
    let Tally { true_and_read, true_and_unread, false_and_read, false_and_unread, .. } = *tally;
    let outcome =
        format!("{} true, {} false", true_and_read + true_and_unread, false_and_read + false_and_unread);
    let got = format!("true but unread {true_and_unread}, false but read {false_and_read}");
    case.row(what, outcome, got, format!("at most {}", time(tally.slowest)));
}

fn fin_race(case: &Case) {
    let tally = race(case, false);
    row(case, "400 runners close within 0.9 ms of the dispatch", &tally);
    if case.mode == Mode::Write {
        return;
    }
    assert!(tally.true_and_read > 0 && tally.false_and_unread > 0, "each side must win some races");
    assert_eq!(tally.false_and_read, 0, "a read run was answered false");
    match case.mode {
        Mode::Read => assert_eq!(tally.true_and_unread, 0, "an unread run was answered true"),
        _ => assert_eq!(
            tally.against_the_wire, 0,
            "the answer must be true if and only if the run was acknowledged"
        ),
    }
    assert!(tally.slowest < Duration::from_millis(150) + case.noise(), "{:?}", tally.slowest);
}

fn reset_race(case: &Case) {
    let tally = race(case, true);
    row(case, "400 runners reset the connection within 0.9 ms of the dispatch", &tally);
    match case.mode {
        Mode::Read => assert_eq!(tally.true_and_read + tally.true_and_unread, 0, "a reset proves nothing"),
        Mode::Ack => assert_eq!(
            tally.against_the_wire, 0,
            "the answer must be true if and only if the run was acknowledged"
        ),
        Mode::Write => {}
    }
}

/// The FIN and the run pass each other on a wire with a delay of 5 ms.
fn fin_crossing(case: &Case) {
    let wire = Wire::long(Duration::from_millis(5));
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    drop(poller);
    let answer = supervisor.answer(PATIENCE);
    case.row("FIN and run pass each other on a wire of 5 ms", answer.outcome, "nothing", time(answer.took));
    match case.mode {
        Mode::Write => assert_eq!(answer.outcome, Outcome::True),
        Mode::Read | Mode::Ack => assert_eq!(answer.outcome, Outcome::False),
    }
}

fn spin_until(at: Instant) {
    while Instant::now() < at {
        std::hint::spin_loop();
    }
}

/// xorshift64*: the same offsets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (((mixed >> 32) * u64::from(bound)) >> 32) as u32
    }
}
