//! Engines that run out of descriptors. The limit applies to the process, so this test is alone in its process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pilotlight::broker::contract::Side;
use pilotlight::broker::io::Input;
use pilotlight::engine::Engine;
use pilotlight::engine::epoll::Epoll;
#[cfg(feature = "io-uring")]
use pilotlight::engine::uring::{Sizes, Uring};
use pilotlight::sys::listen::Listener;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn engines_retry_when_descriptors_run_out() {
    run_out(|listeners| Epoll::new(listeners, usize::MAX).unwrap());
    #[cfg(feature = "io-uring")]
    run_out(|listeners| Uring::with_sizes(listeners, Sizes::default()).unwrap());
}

/// The facts of several turns.
#[derive(Default)]
struct Seen {
    turns: usize,
    accepted: usize,
    failed: usize,
}

fn turns<E: Engine>(engine: &mut E, time: Duration, done: impl Fn(&Seen) -> bool) -> Seen {
    let mut seen = Seen::default();
    let end = Instant::now() + time;
    while !done(&seen) && Instant::now() < end {
        engine.wait(Some(Duration::from_millis(500))).unwrap();
        seen.turns += 1;
        while let Some(fact) = engine.next_fact() {
            match fact {
                Input::Accepted { .. } => seen.accepted += 1,
                Input::AcceptFailed => seen.failed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    seen
}

fn run_out<E: Engine>(make: impl Fn(Vec<(Side, Listener)>) -> E) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut engine = make(vec![(Side::Runner, listener.into())]);
    let mut clients: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(addr).unwrap()).collect();

    // Descriptors for half of them.
    let next = clients[0].try_clone().unwrap().as_raw_fd() as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next + 8, hard).unwrap();
    engine.begin().unwrap();
    let seen = turns(&mut engine, Duration::from_millis(400), |_| false);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(seen.accepted, 8);
    assert!(seen.failed > 0 && seen.failed < 20, "it retries every 50 ms: {} times", seen.failed);
    assert!(seen.turns < 40, "it does not spin: {} turns", seen.turns);

    let seen = turns(&mut engine, PATIENCE, |seen| seen.accepted == 8);
    assert_eq!(seen.accepted, 8, "no connection was lost");
    drop(engine);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}
