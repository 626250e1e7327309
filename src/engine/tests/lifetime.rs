//! Tests of slots, waits, wake-ups, many connections, and the end of an engine.

use super::*;
use crate::engine::accepting::ACCEPTS_PER_TURN;
use std::cell::RefCell;

pub fn a_closed_connection_reports_nothing_more<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for _ in 0..20 {
        let (mut client, conn) = rig.connect();
        // All of this is under way, or in the kernel's queue, when the broker closes the connection.
        client.write_all(b"poll").unwrap();
        rig.send(conn, &pattern(5000, 2), SendConfirm::Acked);
        rig.take_facts();
        rig.engine.pause(conn);
        rig.engine.close(conn);
        let before = rig.seen.len();
        rig.send(conn, b"too late", SendConfirm::Closed);
        rig.engine.resume(conn);
        rig.engine.probe(conn);
        rig.engine.half_close(conn);
        rig.engine.abort(conn);
        drop(client);
        rig.settle();
        // Apart from facts found before the close.
        let about = |fact: &Seen| !matches!(fact, Seen::Accepted(_) | Seen::Sent(_));
        let later: Vec<&Seen> = rig.seen[before..].iter().filter(|fact| about(fact)).collect();
        assert!(later.is_empty(), "{later:?}");
    }
}

pub fn a_reused_slot_has_a_new_generation<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let mut generations: HashMap<u32, Vec<u32>> = HashMap::new();
    for round in 0..30 {
        let (mut client, conn) = rig.connect();
        let used = generations.entry(conn.slot).or_default();
        assert!(!used.contains(&conn.generation), "{conn:?}");
        used.push(conn.generation);
        client.write_all(&[round]).unwrap();
        rig.until("a byte", |seen| !received(seen, conn).is_empty());
        assert_eq!(rig.received(conn), [round]);
        rig.engine.close(conn);
        rig.settle();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
    assert!(generations.len() < 4, "the engine reuses slots: {generations:?}");
}

pub fn a_wake_up_ends_one_wait<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    rig.settle();
    let waker = rig.engine.waker();
    for _ in 0..5 {
        waker.wake();
        waker.wake();
        let begin = Instant::now();
        rig.turn(PATIENCE);
        assert!(begin.elapsed() < PATIENCE / 2, "a wake-up before the wait ends it");
        // Two wake-ups may end two turns.
        rig.settle();

        let other = thread::spawn({
            let waker = waker.clone();
            move || {
                thread::sleep(A_WHILE);
                waker.wake();
            }
        });
        let begin = Instant::now();
        rig.turn(PATIENCE);
        assert!(begin.elapsed() < PATIENCE / 2, "a wake-up ends the wait");
        other.join().unwrap();
        rig.settle();
    }
    let begin = Instant::now();
    rig.turn(A_WHILE);
    assert!(begin.elapsed() >= A_WHILE, "a wake-up ends one wait only");
}

pub fn a_wait_ends_in_time<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    rig.settle();
    for ms in [0, 1, 20] {
        let timeout = Duration::from_millis(ms);
        let begin = Instant::now();
        assert_eq!(rig.turn(timeout), 0);
        let took = begin.elapsed();
        assert!(took >= timeout && took < timeout + PATIENCE / 4, "{took:?} for {timeout:?}");
    }
}

pub fn a_thousand_connections_get_their_own_answers<E: Engine>(make: impl Fn(Listeners) -> E) {
    const CONNECTIONS: usize = 1000;
    Descriptors::raise().unwrap();
    let mut rig = Rig::new(make);
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = TcpStream::connect(rig.addr).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&pattern(100, number)).unwrap();
        clients.push(client);
        if number % 50 == 0 {
            rig.turn(Duration::ZERO);
        }
    }
    for round in 0..3 {
        let mut requests: HashMap<ConnId, Vec<u8>> = HashMap::new();
        let mut scanned = 0;
        let mut answered = 0;
        let end = Instant::now() + PATIENCE;
        let from = if round == 0 { 0 } else { rig.seen.len() };
        if round > 0 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_all(&pattern(100, number + round)).unwrap();
            }
        }
        while answered < CONNECTIONS {
            assert!(Instant::now() < end, "round {round}: {answered} answered");
            rig.turn(Duration::from_millis(20));
            let fresh: Vec<Seen> = rig.seen[from + scanned..].to_vec();
            scanned += fresh.len();
            for fact in fresh {
                if let Seen::Received(conn, bytes) = fact {
                    let request = requests.entry(conn).or_default();
                    request.extend_from_slice(&bytes);
                    if request.len() == 100 {
                        answered += 1;
                        let request = request.clone();
                        rig.send(conn, &request, SendConfirm::None);
                    }
                }
            }
        }
        rig.until("all sent", |seen| {
            seen.iter().filter(|fact| matches!(fact, Seen::Sent(_))).count() == CONNECTIONS * (round + 1)
        });
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 100];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer[..], pattern(100, number + round), "round {round}, client {number}");
        }
    }
    clients.clear();
    rig.until("all closed", |seen| {
        seen.iter().filter(|fact| matches!(fact, Seen::PeerClosed(..))).count() == CONNECTIONS
    });
    let closed: Vec<ConnId> = rig
        .seen
        .iter()
        .filter_map(|fact| match fact {
            Seen::PeerClosed(conn, _) => Some(*conn),
            _ => None,
        })
        .collect();
    closed.into_iter().for_each(|conn| rig.engine.close(conn));
    rig.settle();
}

/// The engine serves older connections in between.
pub fn a_burst_is_accepted_over_many_turns<E: Engine>(make: impl Fn(Listeners) -> E) {
    const BURST: usize = 10 * ACCEPTS_PER_TURN;
    let mut rig = Rig::new(make);
    let (mut client, old) = rig.connect();
    let is_accepted = |fact: &&Seen| matches!(fact, Seen::Accepted(_));
    for herds in 1..=2 {
        let burst: Vec<TcpStream> = (0..BURST).map(|_| TcpStream::connect(rig.addr).unwrap()).collect();
        let before = rig.seen.len();
        let mut accepted = 0;
        while accepted < BURST {
            let before_turn = rig.seen.len();
            rig.turn(PATIENCE);
            let in_turn = rig.seen[before_turn..].iter().filter(is_accepted).count();
            // The rest of one turn may coincide with a new readiness in the next.
            assert!(in_turn <= 2 * ACCEPTS_PER_TURN, "{in_turn} in one turn");
            if accepted == 0 && in_turn > 0 {
                client.write_all(b"poll").unwrap();
            }
            accepted += in_turn;
        }
        let received_at =
            rig.seen.iter().rposition(|fact| matches!(fact, Seen::Received(of, _) if *of == old));
        let received_at =
            received_at.filter(|at| *at >= before).expect("received before the last of the burst");
        let first = rig.seen[before..received_at].iter().filter(is_accepted).count();
        assert!(first <= 5 * ACCEPTS_PER_TURN, "{first} of the burst came first");
        assert_eq!(rig.received(old).len(), 4 * herds);
        drop(burst);
    }
    rig.connect();
}

pub fn queued_connections_are_served_after_accepting_stops<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    rig.settle();
    let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(rig.addr).unwrap()).collect();
    rig.engine.stop_accepting();
    let accepted = |seen: &[Seen]| seen.iter().filter(|fact| matches!(fact, Seen::Accepted(_))).count();
    rig.until("accepted", |seen| accepted(seen) == clients.len());
    rig.settle();
    assert_eq!(TcpStream::connect(rig.addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let conns: Vec<ConnId> = rig
        .seen
        .iter()
        .filter_map(|fact| match fact {
            Seen::Accepted(conn) => Some(*conn),
            _ => None,
        })
        .collect();
    for conn in conns {
        rig.sent(conn, b"goodbye", SendConfirm::None);
        rig.engine.close(conn);
    }
    rig.settle();
    for mut client in clients {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"goodbye");
    }
}

pub fn a_listener_that_fails_does_not_spin<E: Engine>(make: impl Fn(Listeners) -> E) {
    let shared = RefCell::new(None);
    let mut rig = Rig::new(|listeners| {
        shared.replace(Some(listeners[0].1.try_clone().unwrap()));
        make(listeners)
    });
    let (mut client, conn) = rig.connect();
    // Another process with the same socket can do this.
    let Some(Listener::Tcp(listener)) = shared.take() else { unreachable!("the rig listens on TCP") };
    socket2::SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
    // The engine retries it at intervals, does not spin, and serves its connections.
    let begin = Instant::now();
    let mut turns = 0;
    while begin.elapsed() < 4 * A_WHILE {
        rig.turn(A_WHILE);
        turns += 1;
    }
    assert!(turns < 20, "{turns} turns");
    client.write_all(b"still here").unwrap();
    rig.until("bytes", |seen| received(seen, conn) == b"still here");
    rig.engine.stop_accepting();
    rig.settle();
}

pub fn a_dropped_engine_closes_its_connections<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut idle, _) = rig.connect();
    let (mut closed, conn) = rig.connect();
    let (sending, busy) = rig.connect();
    rig.send(busy, &pattern(12 << 20, 1), SendConfirm::Acked);
    rig.settle();
    // The engine has not carried this out before the drop.
    rig.engine.close(conn);
    drop(rig);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(closed.read(&mut [0; 1]).unwrap(), 0);
    drop(sending);
}

#[test]
fn a_busy_peer_gets_two_reads_per_turn_at_most() {
    let mut rig = Rig::new(|listeners| Epoll::new(listeners, usize::MAX).unwrap());
    let (mut client, conn) = rig.connect();
    let writer = thread::spawn(move || {
        client.write_all(&pattern(16 << 20, 3)).unwrap();
        client
    });
    let mut total = 0;
    while total < 16 << 20 {
        let before = rig.seen.len();
        rig.turn(Duration::from_millis(20));
        // Paused and resumed as a pipeline is, in the turn that read it.
        rig.engine.pause(conn);
        rig.engine.resume(conn);
        let reads = rig.seen.drain(before..).map(|fact| match fact {
            Seen::Received(of, bytes) if of == conn => bytes.len(),
            fact => panic!("{fact:?}"),
        });
        let reads: Vec<usize> = reads.collect();
        // One read is left over from the last turn, and one follows a new event.
        assert!(reads.len() <= 2, "{reads:?} in one turn");
        total += reads.iter().sum::<usize>();
    }
    drop(writer.join().unwrap());
}

#[cfg(feature = "io-uring")]
#[test]
fn shortages_are_counted() {
    let mut rig = Rig::new(tiny);
    let (mut client, conn) = rig.connect();
    client.write_all(&pattern(100_000, 0)).unwrap();
    rig.until("all of it", |seen| received(seen, conn).len() == 100_000);
    let shortages = Engine::shortages(&rig.engine);
    assert!(shortages.buffers > 0, "{shortages:?}");
}
