//! A whole fleet that connects at the same time, as after a restart.

use super::fleet::Ends;
use super::http::{Outcome, PATIENCE, Poller, Run, poll_request};
use super::table::time;
use super::{Case, Fault, Mode, Runs, Scope};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] =
    &[Fault { name: "herd", scope: Scope::Only(Mode::Read), runs: Runs::Alone, test: herd }];

const HERD: usize = 20_000;
/// Descriptors that either process needs for other purposes.
const DESCRIPTORS_RESERVED: usize = 500;
const NEAR: &str = "deployment_near";

/// 20,000 runners connect and poll in one burst, from ten addresses, while runs are dispatched. If the limit of
/// open files is too low, the first runners close as soon as they have polled.
fn herd(case: &Case) {
    let limit = descriptors();
    let kept = HERD.min(limit - DESCRIPTORS_RESERVED);
    assert!(kept > HERD * 9 / 10, "{limit} open files are too few for a herd: raise ulimit -Hn");
    let broker = case.broker().workers(2).descriptors(limit).start();
    let calm = dispatch_times(&broker, || thread::sleep(Duration::from_millis(500)));
    let mut herd = Herd::new(broker.runner, HERD - kept);
    let began = Instant::now();
    let mut all_held = Duration::ZERO;
    let stormy = dispatch_times(&broker, || {
        herd.connect_all();
        herd.watch_until(|| {
            let (accepted, waiting) = accepted_and_waiting(&broker);
            accepted >= HERD as u64 && waiting >= kept as u64
        });
        all_held = began.elapsed();
    });
    let (reset, closed) = (herd.reset, herd.closed);
    case.row(
        "a whole fleet connects and polls in one burst",
        format!("{} dispatches: all true", stormy.len()),
        format!("{HERD} accepted, {kept} held, {reset} reset, {closed} closed"),
        format!("all held after {}", time(all_held)),
    );
    case.row("… a dispatch before it", Outcome::True, "the run", spread(&calm));
    case.row("… a dispatch during it", Outcome::True, "the run", spread(&stormy));
    assert_eq!((reset, closed), (0, 0));
    assert!(stormy[stormy.len() - 1] < Duration::from_secs(1) + case.noise(), "a dispatch waited too long");
}

fn spread(times: &[Duration]) -> String {
    format!("half within {}, at most {}", time(times[times.len() / 2]), time(times[times.len() - 1]))
}

/// Raises this process's limit of open files as far as possible and returns it.
fn descriptors() -> usize {
    let wanted = (HERD + DESCRIPTORS_RESERVED) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if hard < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return wanted as usize;
    }
    let limit = soft.max(hard.min(wanted));
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("up to the hard limit");
    limit.min(wanted) as usize
}

fn accepted_and_waiting(broker: &super::broker::Broker) -> (u64, u64) {
    let status = broker.status();
    let accepted =
        status["workers"].as_array().expect("workers").iter().map(|worker| worker["accepted"].as_u64());
    let accepted = accepted.sum::<Option<u64>>().expect("numbers");
    (accepted, status["waiting"].as_u64().expect("a number"))
}

/// The times of dispatches to a runner that polls again and again during `work`, sorted.
fn dispatch_times(broker: &super::broker::Broker, work: impl FnOnce()) -> Vec<Duration> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let dispatches = scope.spawn(|| {
            let mut supervisor = broker.supervisor();
            let mut times = Vec::new();
            let run = Run::new(NEAR);
            while !ended.load(Ordering::Relaxed) {
                let poller = Poller::on(broker.connect(), NEAR);
                let runner = scope.spawn(move || poller.receive(PATIENCE));
                // Accepted after the herd's connections. The answer is false until the poll is held.
                let answer = loop {
                    thread::sleep(Duration::from_millis(2));
                    let answer = supervisor.dispatch(&run);
                    if answer.outcome != Outcome::False || ended.load(Ordering::Relaxed) {
                        break answer;
                    }
                };
                if answer.outcome == Outcome::True {
                    assert!(runner.join().expect("a runner").is(&run));
                    times.push(answer.took);
                } else {
                    assert_eq!(answer.outcome, Outcome::False);
                    break;
                }
            }
            times.sort();
            times
        });
        let ends = Ends(&ended);
        work();
        drop(ends);
        dispatches.join().expect("dispatches")
    })
}

struct Herd {
    broker: SocketAddr,
    poll: Poll,
    /// `None`: the runner has closed its connection.
    streams: Vec<Option<TcpStream>>,
    polled: Vec<bool>,
    /// How many runners close, and how many have closed.
    surplus: usize,
    left: usize,
    request: Vec<u8>,
    reset: usize,
    closed: usize,
}

impl Herd {
    fn new(broker: SocketAddr, surplus: usize) -> Herd {
        Herd {
            broker,
            poll: Poll::new().expect("epoll"),
            streams: Vec::with_capacity(HERD),
            polled: vec![false; HERD],
            surplus,
            left: 0,
            request: poll_request("deployment_herd", "controller_1", "node_1"),
            reset: 0,
            closed: 0,
        }
    }

    fn connect_all(&mut self) {
        for index in 0..HERD {
            let from: SocketAddr = ([127, 0, 0, 2 + (index % 10) as u8], 0).into();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("non-blocking");
            // 20,000 connections in TIME_WAIT would block ports for the next test.
            socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            socket.bind(&from.into()).expect("to bind");
            // Most connects are in progress now.
            let _ = socket.connect(&self.broker.into());
            let mut stream = TcpStream::from_std(socket.into());
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), both).expect("epoll");
            self.streams.push(Some(stream));
            if index % 256 == 255 {
                self.turn(Duration::ZERO);
                self.thin();
            }
        }
        assert_eq!(self.left, self.surplus, "the first have polled by the time that the last connect");
    }

    /// Closes the first runners when they have polled.
    fn thin(&mut self) {
        while self.left < self.surplus && self.polled[self.left] {
            self.streams[self.left] = None;
            self.left += 1;
        }
    }

    fn watch_until(&mut self, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < until, "the herd is not held");
            // /status is cached for 100 ms.
            for _ in 0..10 {
                self.turn(Duration::from_millis(10));
            }
        }
    }

    /// Polls on new connections and counts ended ones.
    fn turn(&mut self, at_most: Duration) {
        let mut events = Events::with_capacity(4_096);
        self.poll.poll(&mut events, Some(at_most)).expect("epoll");
        for event in &events {
            let index = event.token().0;
            let Some(mut stream) = self.streams[index].as_ref() else { continue };
            if !self.polled[index] && event.is_writable() {
                match stream.write(&self.request) {
                    Ok(count) => self.polled[index] = count == self.request.len(),
                    Err(_) => self.reset += 1,
                }
            }
            if event.is_readable() || event.is_error() {
                match stream.read(&mut [0; 512]) {
                    Ok(0) => self.closed += 1,
                    Ok(count) => panic!("a poll was answered with {count} bytes"),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => self.reset += 1,
                }
            }
        }
    }
}
