//! Ends that meet the run: a runner that closes or resets within microseconds of the write.

use super::broker::{Broker, on_io_uring, through_the_ring};
use super::http::{Answer, PATIENCE, Poller, Run, Supervisor, Told, read_now};
use super::net::Net;
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Beside, Case, Cores, Fault, Mode, Scope};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "fin_before", scope: Scope::Everything, beside: Beside::Others, test: fin_before },
    Fault { name: "fin_behind", scope: Scope::Modes, beside: Beside::Others, test: fin_behind },
    Fault { name: "fin_race", scope: Scope::Everything, beside: Beside::Others, test: fin_race },
    Fault { name: "reset_race", scope: Scope::Everything, beside: Beside::Others, test: reset_race },
    Fault { name: "fin_crossing", scope: Scope::Modes, beside: Beside::Others, test: fin_crossing },
];

const DEPLOYMENT: &str = "deployment_races";
const ROUNDS: u32 = 400;
/// After this, what was sent over loopback is in the other end's kernel, on a busy machine too.
const QUEUED: Duration = Duration::from_millis(30);

/// The FIN is in the broker's kernel before the dispatch is; the broker sees both at once.
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
    case.row("the runner's FIN is queued, then a dispatch", answer.told, "nothing", time(took));
    // With two workers the dispatch may be ahead all the same: then it is the next test's case.
    assert!(answer.told == Told::False || case.mode == Mode::Write && case.workers == Cores::Two);
}

/// The dispatch is in the broker's kernel before the FIN is: the broker writes to a closed socket,
/// and its kernel takes the bytes.
fn fin_behind(case: &Case) {
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
    case.row("a dispatch is queued, then the runner's FIN", answer.told, "nothing", time(took));
    match case.mode {
        // io_uring may show the FIN first all the same.
        Mode::Write => assert!(answer.told == Told::True || on_io_uring(), "our kernel took the bytes"),
        Mode::Read | Mode::Ack => assert_eq!(answer.told, Told::False),
    }
}

/// The answer, and how long it took from the moment at which the broker could go on.
fn answer_after_thaw(broker: &Broker, supervisor: &mut Supervisor) -> (Answer, Duration) {
    let thawed = Instant::now();
    broker.thaw();
    let answer = supervisor.answer(PATIENCE);
    (answer, thawed.elapsed())
}

/// What `ROUNDS` races came to.
#[derive(Default)]
struct Tally {
    true_and_read: u32,
    true_and_unread: u32,
    false_and_read: u32,
    false_and_unread: u32,
    /// Told true, and the runner's kernel had not acknowledged all; or told false, and it had.
    against_the_wire: u32,
    slowest: Duration,
}

/// Over a wire that remembers, or over loopback, where the ends are nearer to each other.
fn race(case: &Case, reset: bool) -> Tally {
    let wire = (case.workers == Cores::One).then(Wire::new);
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
        // More of them near to the write, where it is closest.
        let offset = Duration::from_micros(u64::from(random.below(30)).pow(2));
        let outcome = round_of(&mut supervisor, &runner_net, broker.runner, &run, offset, reset);
        let Outcome { told, read, port, took } = outcome;
        match (told, read) {
            (Told::True, true) => tally.true_and_read += 1,
            (Told::True, false) => tally.true_and_unread += 1,
            (Told::False, true) => tally.false_and_read += 1,
            (Told::False, false) => tally.false_and_unread += 1,
            (told, _) => panic!("round {round}: the supervisor was told {told}"),
        }
        if let Some(wire) = &wire {
            let acked = wire.acked_bytes(port) >= head_bytes + run.message.len();
            let is_against = match told {
                Told::True => !acked,
                // Acknowledged, and reset before anybody looked: false is as true. (Whoever closes with the run
                // unread resets, too.) Through the ring the announcement is found in any case.
                _ => acked && (through_the_ring() || !wire.was_reset(port)),
            };
            if is_against {
                eprintln!("round {round}: told {told} in {took:?}, acked {}", wire.describe(port));
            }
            tally.against_the_wire += u32::from(is_against);
        }
        tally.slowest = tally.slowest.max(took);
    }
    tally
}

/// How long the head of a response is: the same for every message of four digits' length.
fn head_bytes(supervisor: &mut Supervisor, net: &Net, broker: SocketAddr) -> usize {
    let poller = Poller::on(net.connect(broker).expect("to connect"), DEPLOYMENT);
    let runner = thread::spawn(move || poller.receive(PATIENCE));
    let answer = supervisor.dispatch_when_held(&Run::sized(DEPLOYMENT, 1_000));
    assert_eq!(answer.told, Told::True);
    let got = runner.join().expect("a runner");
    got.bytes - got.body.len()
}

struct Outcome {
    told: Told,
    read: bool,
    port: u16,
    took: Duration,
}

fn round_of(
    supervisor: &mut Supervisor,
    net: &Net,
    broker: SocketAddr,
    run: &Run,
    offset: Duration,
    reset: bool,
) -> Outcome {
    let poller = Poller::on(net.connect(broker).expect("to connect"), DEPLOYMENT);
    let port = poller.port();
    // The poll is held by then, and the connection's end is all that is in question.
    let start = Instant::now() + Duration::from_millis(1);
    thread::scope(|scope| {
        let runner = scope.spawn(move || {
            spin_until(start + offset);
            end(poller.stream, run, reset)
        });
        spin_until(start);
        let answer = supervisor.dispatch(run);
        let read = runner.join().expect("a runner");
        Outcome { told: answer.told, read, port, took: answer.took }
    })
}

/// Reads what is there at this moment, then ends the connection. Was it the whole run?
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
    let told =
        format!("{} true, {} false", true_and_read + true_and_unread, false_and_read + false_and_unread);
    let got = format!("true but unread {true_and_unread}, false but read {false_and_read}");
    case.row(what, told, got, format!("at most {}", time(tally.slowest)));
}

fn fin_race(case: &Case) {
    let tally = race(case, false);
    row(case, "400 runners close within 0.9 ms of the dispatch", &tally);
    if case.mode == Mode::Write {
        return;
    }
    assert!(tally.true_and_read > 0 && tally.false_and_unread > 0, "both ends win some");
    assert_eq!(tally.false_and_read, 0, "what was read is true");
    match case.mode {
        Mode::Read => assert_eq!(tally.true_and_unread, 0, "what is true was read"),
        _ => assert_eq!(tally.against_the_wire, 0, "what is true was acknowledged, and nothing else"),
    }
    assert!(tally.slowest < Duration::from_millis(150) + case.noise(), "{:?}", tally.slowest);
}

fn reset_race(case: &Case) {
    let tally = race(case, true);
    row(case, "400 runners reset the connection within 0.9 ms of the dispatch", &tally);
    match case.mode {
        Mode::Read => assert_eq!(tally.true_and_read + tally.true_and_unread, 0, "a reset proves nothing"),
        Mode::Ack => assert_eq!(tally.against_the_wire, 0, "what is true was acknowledged, and nothing else"),
        Mode::Write => {}
    }
}

/// The FIN and the run pass each other on a wire that is 5 ms long.
fn fin_crossing(case: &Case) {
    let wire = Wire::long(Duration::from_millis(5));
    let broker = case.broker().on(&wire.broker, BROKER).start();
    let poller = broker.poll_from(&wire.runner, DEPLOYMENT);
    let mut supervisor = broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    supervisor.ask(&run).expect("to ask");
    drop(poller);
    let answer = supervisor.answer(PATIENCE);
    case.row("FIN and run pass each other on a wire of 5 ms", answer.told, "nothing", time(answer.took));
    match case.mode {
        Mode::Write => assert_eq!(answer.told, Told::True),
        Mode::Read | Mode::Ack => assert_eq!(answer.told, Told::False),
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
