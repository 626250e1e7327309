//! Service for other clients, and memory use, while clients misbehave.

use crate::support::broker::Broker;
use crate::support::client::{Client, End};
use crate::support::trigger::{self, Key};
use crate::support::{MOMENT, PATIENCE};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// A runner and a supervisor that deliver one run after the other.
struct Others {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Others {
    fn at(broker: &Broker) -> Others {
        let (runner, supervisor) = (broker.runner, broker.dispatch);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || {
                let (mut runs, mut worst) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    worst = worst.max(one_run(runner, supervisor));
                    runs += 1;
                    thread::sleep(Duration::from_millis(2));
                }
                (runs, worst)
            }
        });
        Others { stop, thread }
    }

    /// Ends them, and asserts that the broker served them all the time.
    #[track_caller]
    fn assert_served(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (runs, worst) = self.thread.join().expect("no failed run");
        println!("in the meantime {runs} runs, each within {worst:?}");
        assert!(runs > 0);
        // A wide bound for a debug build on a busy machine. A run must not wait as long as the attack.
        assert!(worst < Duration::from_secs(5), "{worst:?}");
    }
}

/// Connects as a runner, dispatches a run to it and receives it. Returns how long that took.
fn one_run(runner: SocketAddr, supervisor: SocketAddr) -> Duration {
    let began = Instant::now();
    let key = Key::fresh();
    let mut poll = Client::connect(runner);
    let mut dispatch = Client::connect(supervisor);
    poll.send(key.poll());
    let message = key.message();
    dispatch.send(trigger::dispatch(&message));
    loop {
        match poll.read(Duration::from_millis(2)) {
            Ok(run) => {
                assert_eq!(run.text(), message);
                poll.finish();
                assert!(dispatch.response().did_warm_start());
                return began.elapsed();
            }
            Err(End::Silent) => {}
            Err(end) => panic!("no run, but {end:?}"),
        }
        // The answer is false until the broker holds the poll.
        if let Ok(answer) = dispatch.read(Duration::from_millis(2)) {
            assert!(!answer.did_warm_start());
            dispatch.send(trigger::dispatch(&message));
        }
    }
}

/// Sends one byte after another on every connection, until the broker has closed them all.
fn trickle(clients: &mut Vec<Client>, bytes: &[u8], pause: Duration) -> Vec<Client> {
    let until = Instant::now() + PATIENCE;
    let mut ended = Vec::new();
    for byte in bytes.iter().cycle() {
        for mut client in std::mem::take(clients) {
            match client.try_send([*byte]).is_ok() && client.end(Duration::ZERO) == End::Silent {
                true => clients.push(client),
                false => ended.push(client),
            }
        }
        if clients.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{} are still open", clients.len());
        thread::sleep(pause);
    }
    ended
}

#[test]
fn slow_heads_time_out() {
    let broker = Broker::start("--workers 2 --request-timeout 700ms");
    let others = Others::at(&broker);
    let before = broker.rss();
    let mut slow: Vec<Client> = (0..300).map(|_| broker.client()).collect();
    let poll = Key::fresh().poll();
    slow.iter_mut().for_each(|client| client.send(&poll[..poll.len() - 200]));
    thread::sleep(MOMENT);
    assert!(broker.rss().saturating_sub(before) < 16 * MIB);
    // The bytes of an endless field.
    let ended = trickle(&mut slow, b"x", Duration::from_millis(50));
    for client in &ended {
        assert_eq!(client.leftover(), "", "an incomplete poll was answered");
    }
    broker.wait_for("requests_timed_out", 300);
    others.assert_served();
}

#[test]
fn slow_bodies_time_out() {
    let broker = Broker::start("--workers 2 --request-timeout 700ms");
    let others = Others::at(&broker);
    let before = broker.rss();
    let head = |framing: &str| format!("POST /warm-start HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let mut slow: Vec<Client> = (0..300).map(|_| broker.supervisor()).collect();
    for (index, client) in slow.iter_mut().enumerate() {
        // Each announces 16 MiB.
        match index % 2 {
            0 => client.send(head("Content-Length: 16777216") + "{"),
            _ => client.send(head("Transfer-Encoding: chunked") + "1000000\r\n{"),
        }
    }
    thread::sleep(MOMENT);
    let grown = broker.rss().saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB for announced bodies", grown / MIB);
    let ended = trickle(&mut slow, b" ", Duration::from_millis(50));
    assert!(ended.iter().all(|client| client.leftover().is_empty()));
    broker.wait_for("requests_timed_out", 300);
    others.assert_served();
}

/// Clients that send requests and never read an answer.
#[test]
fn clients_that_do_not_read_time_out() {
    let broker = Broker::start("--workers 2 --write-timeout 700ms");
    let others = Others::at(&broker);
    let before = broker.rss();
    // Large requests, so that one read holds few of them: the test is about memory for answers.
    let request = format!("GET /connect HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(500));
    let requests = request.repeat(200);
    let mut slow: Vec<Client> = (0..4)
        .map(|_| {
            let client = Client::connect_narrow(broker.runner);
            client.stream.set_nonblocking(true).expect("set");
            client
        })
        .collect();
    let until = Instant::now() + PATIENCE;
    while !slow.is_empty() {
        slow.retain_mut(|client| match client.try_send(&requests) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        assert!(Instant::now() < until, "{} are still open", slow.len());
        let grown = broker.rss().saturating_sub(before);
        assert!(grown < 32 * MIB, "{} MiB", grown / MIB);
        thread::sleep(Duration::from_millis(20));
    }
    others.assert_served();
}

/// Clients that pipeline as many requests as possible and read the answers as fast as possible.
#[test]
fn pipelining_clients_leave_room_for_others() {
    let broker = Broker::start("--workers 2");
    let others = Others::at(&broker);
    let greedy: Vec<_> = (0..2)
        .map(|_| {
            let mut client = broker.client();
            let mut writer = client.stream.try_clone().expect("cloned");
            thread::spawn(move || {
                const COUNT: usize = 15_000;
                let requests = thread::spawn(move || {
                    use std::io::Write;
                    writer.write_all(&trigger::CONNECT.repeat(COUNT)).expect("sent");
                });
                (0..COUNT).for_each(|_| assert_eq!(client.response().status, 200));
                requests.join().expect("sent");
            })
        })
        .collect();
    greedy.into_iter().for_each(|thread| thread.join().expect("answered"));
    others.assert_served();
}

/// The broker gives up a run that its runner does not read, and frees its memory.
#[test]
fn an_unread_run_is_given_up() {
    // Only the ACK timeout is short. The other runners' kernels are fast, but their threads may be late.
    let broker = Broker::start("--workers 1 --ack-timeout 300ms");
    let key = Key::fresh();
    // Receive buffers too small for the run: it stays in the broker and in the broker's kernel.
    let mut deaf: Vec<Client> = (0..2).map(|_| Client::connect_narrow(broker.runner)).collect();
    deaf.iter_mut().for_each(|client| client.send(key.poll()));
    broker.expect_polls(2);
    let message = key.message_with(&"x".repeat(8 * MIB));
    let others = Others::at(&broker);
    let before = broker.rss();
    let began = Instant::now();
    assert!(!broker.dispatch(&message));
    // Well before --dispatch-timeout, which is 15 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    others.assert_served();
    broker.wait_for("claimed", 0);
    let grown = broker.rss().saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB are left of 8", grown / MIB);
}

/// Raises this process's limit of open files as far as possible and returns it.
fn open_files() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // Root may exceed the hard limit.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, 12_000.max(hard), 12_000.max(hard));
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    getrlimit(Resource::RLIMIT_NOFILE).expect("a limit").0 as usize
}

/// Connections from several loopback addresses. Each address has its own ports.
fn connections(broker: &Broker, count: usize) -> Vec<Client> {
    let source = |index: usize| Ipv4Addr::new(127, 0, 1, 1 + (index % 8) as u8);
    (0..count).map(|index| Client::connect_from(source(index), broker.runner).expect("connected")).collect()
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let count = 10_000.min(open_files() - 1_000);
    let broker = Broker::with_descriptors(12_000, "--workers 2");
    let before = broker.rss();
    let mut idle = connections(&broker, count);
    broker.wait_for("connections", count as u64);
    let silent = broker.rss().saturating_sub(before);
    // Half of them hold a poll, a quarter have done a /connect.
    let key = Key::fresh();
    let poll = key.poll();
    for (index, client) in idle.iter_mut().enumerate() {
        match index % 4 {
            0 | 1 => client.send(&poll),
            2 => client.send(trigger::CONNECT),
            _ => {}
        }
    }
    broker.expect_polls(count / 2);
    let grown = broker.rss().saturating_sub(before);
    println!("{count} sockets: {} B each silent, {} B each in use", silent / count, grown / count);
    assert!(grown / count < 2_048, "{} B each", grown / count);
    // A broker that spins never has 300 ms with little processor time.
    broker.wait_until("300 ms with little processor time", || {
        let cpu = broker.cpu_time();
        thread::sleep(Duration::from_millis(300));
        broker.cpu_time() - cpu <= Duration::from_millis(100)
    });
    let others = Others::at(&broker);
    thread::sleep(Duration::from_millis(300));
    others.assert_served();
    for client in idle.iter_mut().skip(2).step_by(400) {
        assert_eq!(client.response().status, 200);
    }
    broker.wait_for("polls_expired", 0);
    drop(idle);
    broker.wait_until("no held poll", || broker.waiting(&key) == 0);
}

/// More connections than the limit, opened again and again.
#[test]
fn a_flood_of_connections_leaves_room_for_held_polls() {
    let broker = Broker::start("--workers 2 --max-connections 200 --request-timeout 500ms");
    let keys: Vec<Key> = (0..100).map(|_| Key::fresh()).collect();
    let mut polls: Vec<Client> = keys.iter().map(|_| broker.client()).collect();
    for (key, poll) in keys.iter().zip(&mut polls) {
        poll.send(key.poll());
    }
    broker.expect_polls(polls.len());
    let mut supervisor = broker.supervisor();
    assert!(!supervisor.ask(Key::fresh().dispatch()).did_warm_start());
    let before = broker.rss();

    let stop = Arc::new(AtomicBool::new(false));
    let flood: Vec<JoinHandle<usize>> = (0..2)
        .map(|which| {
            let (stop, addr) = (stop.clone(), broker.runner);
            thread::spawn(move || {
                let mut opened = 0;
                let mut open = std::collections::VecDeque::new();
                while !stop.load(Ordering::Relaxed) {
                    let source = Ipv4Addr::new(127, 0, 2, 1 + which);
                    let Ok(mut client) = Client::connect_from(source, addr) else { continue };
                    // Some are silent, some send a part of a request, some a whole one.
                    let _ = client.try_send(&trigger::CONNECT[..[0, 20, trigger::CONNECT.len()][opened % 3]]);
                    opened += 1;
                    open.push_back(client);
                    if open.len() > 400 {
                        open.pop_front().expect("there").reset();
                    }
                }
                opened
            })
        })
        .collect();
    // Existing connections are served as before.
    let began = Instant::now();
    for (key, mut poll) in keys.iter().zip(polls) {
        let message = key.message();
        let asked = Instant::now();
        supervisor.send(trigger::dispatch(&message));
        assert_eq!(poll.response().text(), message);
        drop(poll);
        assert!(supervisor.response().did_warm_start());
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let opened: usize = flood.into_iter().map(|flood| flood.join().expect("done")).sum();
    let grown = broker.rss().saturating_sub(before);
    println!("{opened} connections within {took:?}; {} KiB more", grown >> 10);
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
    assert!(broker.counter("refused") + broker.counter("evicted") > 0);
    // After the flood, including its rest in the kernel's queue, new connections are served too.
    broker.wait_until("the end of the flood", || {
        let accepted = || broker.counter("accepted") + broker.counter("refused");
        let before = accepted();
        thread::sleep(Duration::from_millis(200));
        accepted() == before && broker.counter("connections") < 100
    });
    assert!(one_run(broker.runner, broker.dispatch) < Duration::from_secs(5));
}

/// The broker refuses many oversized heads and bodies at once and keeps none of their bytes.
#[test]
fn a_flood_of_oversized_requests_uses_little_memory() {
    let broker = Broker::start("--workers 2");
    let others = Others::at(&broker);
    let before = broker.rss();
    let field = format!("X: {}\r\n", "y".repeat(MIB));
    let head = format!("GET /connect HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    let body = format!(
        "POST /warm-start HTTP/1.1\r\nHost: a\r\nContent-Length: 16777217\r\n\r\n{}",
        " ".repeat(MIB)
    );
    let chunk = "POST /warm-start HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &format!("100000\r\n{}\r\n", " ".repeat(MIB)).repeat(17);
    let (mut refused, mut peak) = (0, 0);
    for round in 0..20 {
        let threads: Vec<_> = [(&head, 431), (&head, 431), (&body, 413), (&chunk, 413)]
            .map(|(request, status)| {
                let (request, mut client) = (request.clone(), broker.supervisor());
                thread::spawn(move || {
                    // 17 MiB, of which the broker reads 16 MiB before the refusal: only some rounds send it.
                    if request.len() > 2 * MIB && round % 10 > 0 {
                        return 0;
                    }
                    let _ = client.try_send(request);
                    // The client can read the refusal although more bytes were on their way.
                    assert_eq!(client.response().status, status);
                    client.expect_gone();
                    1
                })
            })
            .into();
        refused += threads.into_iter().map(|thread| thread.join().expect("refused")).sum::<u64>();
        peak = peak.max(broker.rss().saturating_sub(before));
    }
    broker.wait_for("rejected", refused);
    println!("{refused} refused, {} MiB more at the most", peak / MIB);
    assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    others.assert_served();
}

/// Random bytes, and clients that disconnect at any point.
#[test]
fn random_bytes_disturb_no_other_client() {
    let broker = Broker::start("--workers 2 --request-timeout 1s");
    let others = Others::at(&broker);
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        // xorshift64*
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    let good = [trigger::CONNECT.to_vec(), Key::fresh().dispatch(), Key::fresh().poll().into_bytes()];
    for _ in 0..2_000 {
        let mut bytes = good[random(3)].clone();
        for _ in 0..random(6) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..at + random(bytes.len() - at))),
                _ => bytes.insert(at, b"\r\n:; \0,0"[random(8)]),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        let mut client = broker.client();
        for piece in bytes.chunks(1 + random(bytes.len())) {
            if client.try_send(piece).is_err() {
                break;
            }
        }
        match random(3) {
            0 => client.reset(),
            1 => client.finish(),
            _ => {}
        }
    }
    others.assert_served();
}

/// The budget for bytes in flight is full, and a body arrives without waiting for the 100 (Continue): the
/// refusal comes after the 100 and does not overtake it.
#[test]
fn a_full_budget_while_100_is_on_its_way() {
    let broker = Broker::start("--workers 1 --max-body 256KiB --max-buffered 4MiB");
    let length = 256 << 10;
    let head = |fields: &str| format!("POST /warm-start HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let incomplete = head(&format!("Content-Length: {length}")) + &" ".repeat(length - 1);
    let mut crowd: Vec<Client> = (0..16).map(|_| broker.supervisor()).collect();
    crowd.iter_mut().for_each(|client| drop(client.try_send(&incomplete)));
    broker.wait_until("the budget is full", || broker.counter("refused_bytes") > 0);
    let mut refused = 0;
    for _ in 0..50 {
        let mut client = broker.supervisor();
        // The head fills one io_uring receive (4096 bytes), so that the body arrives with the next.
        let fields =
            |pad| format!("Expect: 100-continue\r\nContent-Length: {length}\r\nX: {}", "x".repeat(pad));
        let head = head(&fields(4096 - head(&fields(0)).len()));
        let _ = client.try_send(head + &" ".repeat(40 << 10));
        let mut statuses = Vec::new();
        while let Ok(response) = client.read(MOMENT) {
            statuses.push(response.status);
        }
        // The first few may still fit.
        assert!([&[100, 503][..], &[503], &[100], &[]].contains(&&statuses[..]), "{statuses:?}");
        refused += usize::from(statuses.contains(&503));
        crowd.push(client);
    }
    assert!(refused > 20, "{refused} are refused");
    drop(crowd);
    assert!(one_run(broker.runner, broker.dispatch) < Duration::from_secs(5));
}
