//! One set of tests for all engines, over real sockets.

use super::Engine;
use super::epoll::Epoll;
#[cfg(feature = "io-uring")]
use super::uring::{Sizes, Uring};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm, TcpFacts};
use crate::sys::descriptors::Descriptors;
use crate::sys::tcp;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what is on its way to arrive, or not to.
const A_WHILE: Duration = Duration::from_millis(60);
/// What the broker uses with `--confirm ack`.
const SEGMENT_BYTES: u32 = 536;

type Listeners = Vec<(Side, TcpListener)>;

macro_rules! for_each_engine {
    ($($name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(|listeners| super::Epoll::new(listeners).unwrap()) })*
        }
        #[cfg(feature = "io-uring")]
        mod io_uring {
            $(#[test] fn $name() { super::$name(|listeners| super::Uring::new(listeners).unwrap()) })*
        }
        /// Where everything runs short all the time, the facts are the same.
        #[cfg(feature = "io-uring")]
        mod tiny_io_uring {
            $(#[test] fn $name() { super::$name(super::tiny) })*
        }
    };
}

for_each_engine! {
    bytes_arrive_in_order_however_they_are_cut
    a_large_response_reaches_a_slow_reader_whole
    a_fin_is_told_with_facts_only_if_something_is_in_question
    a_close_with_unread_bytes_is_a_reset
    a_reset_is_told
    a_reset_behind_a_fin_is_told_while_bytes_are_unacknowledged
    an_abort_resets_and_a_close_delivers
    an_abort_takes_back_what_is_not_sent
    a_closed_connection_is_heard_of_no_more
    slots_are_used_again_under_another_generation
    a_paused_peer_feels_back_pressure
    the_end_is_told_of_a_paused_connection_in_question
    a_probe_counts_what_the_kernel_does_not_have_yet
    acknowledgements_are_told_once_and_after_the_sending
    acknowledgements_do_not_wait_for_the_peer_s_delay
    an_acknowledgement_comes_behind_a_fin
    a_wake_up_ends_a_wait_before_and_during_it
    a_wait_ends_in_time
    a_shut_down_connection_still_reads
    a_thousand_connections_get_their_own_answers
    queued_connections_are_served_after_the_end_of_accepting
    whoever_drops_the_engine_closes_its_connections
}

#[cfg(feature = "io-uring")]
fn tiny(listeners: Listeners) -> Uring {
    let sizes = Sizes { submissions: 4, completions: 8, buffers: 4, buffer_bytes: 64 };
    Uring::with_sizes(listeners, sizes).unwrap()
}

/// A fact that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Accepted(ConnId),
    AcceptFailed,
    Received(ConnId, Vec<u8>),
    Sent(ConnId),
    Acked(ConnId),
    PeerClosed(ConnId, Option<TcpFacts>),
    Reset(ConnId),
    Probed(ConnId, TcpFacts),
}

struct Rig<E> {
    engine: E,
    addr: SocketAddr,
    /// All facts so far, oldest first.
    seen: Vec<Seen>,
}

impl<E: Engine> Rig<E> {
    fn new(make: impl Fn(Listeners) -> E) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
        tcp::limit_segments(listener.as_fd(), SEGMENT_BYTES).unwrap();
        let mut engine = make(vec![(Side::Runner, listener)]);
        engine.begin().unwrap();
        Rig { engine, addr, seen: Vec::new() }
    }

    /// One turn; answers how many facts it brought.
    fn turn(&mut self, timeout: Duration) -> usize {
        let before = self.seen.len();
        self.engine.wait(Some(timeout)).unwrap();
        while let Some(fact) = self.engine.next_fact() {
            self.seen.push(match fact {
                Input::Accepted { conn, side: Side::Runner } => Seen::Accepted(conn),
                Input::AcceptFailed => Seen::AcceptFailed,
                Input::Received { conn, bytes } => Seen::Received(conn, bytes.to_vec()),
                Input::Sent { conn } => Seen::Sent(conn),
                Input::Acked { conn } => Seen::Acked(conn),
                Input::PeerClosed { conn, facts } => Seen::PeerClosed(conn, facts),
                Input::Reset { conn } => Seen::Reset(conn),
                Input::Probed { conn, facts } => Seen::Probed(conn, facts),
                other => panic!("no engine says {other:?}"),
            });
        }
        self.seen.len() - before
    }

    /// Turns until `done`, which looks at all facts so far.
    fn until(&mut self, what: &str, mut done: impl FnMut(&[Seen]) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(&self.seen) {
            assert!(Instant::now() < end, "{what}: {:?}", self.last_seen());
            self.turn(Duration::from_millis(20));
        }
    }

    fn last_seen(&self) -> &[Seen] {
        &self.seen[self.seen.len().saturating_sub(20)..]
    }

    /// Turns for a while.
    fn settle(&mut self) {
        let end = Instant::now() + A_WHILE;
        while Instant::now() < end {
            self.turn(Duration::from_millis(5));
        }
    }

    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let before = self.seen.len();
        self.until("accepted", |seen| seen[before..].iter().any(|fact| matches!(fact, Seen::Accepted(_))));
        let accepted = self.seen[before..].iter().find_map(|fact| match fact {
            Seen::Accepted(conn) => Some(*conn),
            _ => None,
        });
        (client, accepted.unwrap())
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8], confirm: SendConfirm) {
        self.engine.send(conn, Payload::Shared(bytes.into()), confirm);
    }

    fn sent(&mut self, conn: ConnId, bytes: &[u8], confirm: SendConfirm) {
        let before = self.count(&Seen::Sent(conn));
        self.send(conn, bytes, confirm);
        self.until("sent", |seen| count(seen, &Seen::Sent(conn)) > before);
    }

    fn count(&self, fact: &Seen) -> usize {
        count(&self.seen, fact)
    }

    fn received(&self, conn: ConnId) -> Vec<u8> {
        received(&self.seen, conn)
    }

    fn closed(&self, conn: ConnId) -> Option<Option<TcpFacts>> {
        self.seen.iter().find_map(|fact| match fact {
            Seen::PeerClosed(of, facts) if *of == conn => Some(*facts),
            _ => None,
        })
    }
}

fn count(seen: &[Seen], fact: &Seen) -> usize {
    seen.iter().filter(|other| *other == fact).count()
}

fn received(seen: &[Seen], conn: ConnId) -> Vec<u8> {
    let mut all = Vec::new();
    for fact in seen {
        if let Seen::Received(of, bytes) = fact
            && *of == conn
        {
            all.extend_from_slice(bytes);
        }
    }
    all
}

fn has_closed(seen: &[Seen], conn: ConnId) -> bool {
    seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, _) if *of == conn))
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31) ^ index >> 8 ^ seed) as u8).collect()
}

fn bytes_arrive_in_order_however_they_are_cut<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    client.write_all(b"hel").unwrap();
    rig.until("the first piece", |seen| received(seen, conn) == b"hel");
    client.write_all(b"lo").unwrap();
    rig.until("both pieces", |seen| received(seen, conn) == b"hello");

    let sent = pattern(1 << 20, 7);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            client.write_all(&sent).unwrap();
            client
        }
    });
    rig.until("a large request", |seen| received(seen, conn).len() >= 5 + sent.len());
    assert!(rig.received(conn)[5..] == sent);
    drop(writer.join().unwrap());
}

fn a_large_response_reaches_a_slow_reader_whole<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::None, SendConfirm::Closed, SendConfirm::Acked] {
        let (mut client, conn) = rig.connect();
        let body = pattern(12 << 20, 3);
        rig.send(conn, &body, confirm);
        rig.settle();
        assert_eq!(rig.count(&Seen::Sent(conn)), 0, "the kernel can't have taken it all");
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            let mut chunk = vec![0; 256 * 1024];
            while let Ok(count @ 1..) = client.read(&mut chunk) {
                all.extend_from_slice(&chunk[..count]);
                thread::sleep(Duration::from_millis(1));
            }
            all
        });
        rig.until("sent", |seen| seen.contains(&Seen::Sent(conn)));
        if confirm == SendConfirm::Acked {
            rig.until("acked", |seen| seen.contains(&Seen::Acked(conn)));
        }
        rig.engine.close(conn);
        rig.settle();
        assert_eq!(rig.count(&Seen::Sent(conn)), 1);
        assert!(reader.join().unwrap() == body, "{confirm:?}");
    }
}

fn a_fin_is_told_with_facts_only_if_something_is_in_question<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
    assert_eq!(rig.closed(conn), Some(None));
    rig.engine.close(conn);

    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"run", SendConfirm::Closed);
    client.read_exact(&mut [0; 3]).unwrap();
    assert_eq!(client.read(&mut [0; 3]).unwrap(), 0, "our FIN goes with the last byte");
    assert_eq!(rig.closed(conn), None, "and is not the peer's");
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
    let facts = rig.closed(conn).unwrap().unwrap();
    assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");
    rig.engine.probe(conn);
    rig.until("probed", |seen| {
        seen.iter()
            .any(|fact| matches!(fact, Seen::Probed(of, facts) if *of == conn && facts.alive && facts.fin))
    });
    rig.engine.close(conn);
    rig.settle();
}

fn a_close_with_unread_bytes_is_a_reset<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    rig.sent(conn, b"a run that nobody reads", SendConfirm::Closed);
    rig.settle();
    drop(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
    assert_eq!(rig.closed(conn), None);
}

fn a_reset_is_told<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));

    // Also to whoever awaits an acknowledgement.
    let (client, conn) = rig.connect();
    rig.send(conn, &pattern(8 << 20, 1), SendConfirm::Acked);
    rig.settle();
    drop(client);
    rig.until("reset while sending", |seen| seen.contains(&Seen::Reset(conn)));
    rig.engine.abort(conn);
    rig.settle();
    assert_eq!(rig.count(&Seen::Acked(conn)), 0);
}

fn a_reset_behind_a_fin_is_told_while_bytes_are_unacknowledged<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (client, conn) = rig.connect();
    // More than the peer's window takes, and less than our own buffer.
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    rig.send(conn, &pattern(12 << 20, 1), SendConfirm::Closed);
    rig.settle();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| has_closed(seen, conn));
    let facts = rig.closed(conn).unwrap().unwrap();
    assert!(facts.alive && facts.unacked_bytes > 0, "{facts:?}");
    drop(client);
    rig.until("reset", |seen| seen.contains(&Seen::Reset(conn)));
}

fn an_abort_resets_and_a_close_delivers<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.engine.abort(conn);
    rig.settle();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"last words", SendConfirm::None);
    rig.engine.close(conn);
    rig.settle();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}

fn an_abort_takes_back_what_is_not_sent<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::None, SendConfirm::Closed, SendConfirm::Acked] {
        let (mut client, conn) = rig.connect();
        let body = pattern(12 << 20, 9);
        rig.send(conn, &body, confirm);
        rig.settle();
        rig.engine.abort(conn);
        rig.settle();
        let mut all = Vec::new();
        assert_eq!(client.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(all.len() < body.len());
        assert!(!rig.seen.contains(&Seen::Sent(conn)) && !rig.seen.contains(&Seen::Acked(conn)));
    }
}

fn a_closed_connection_is_heard_of_no_more<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for _ in 0..20 {
        let (mut client, conn) = rig.connect();
        // All of this is under way, or in the kernel's queue, when the core gives it up.
        client.write_all(b"poll").unwrap();
        rig.send(conn, &pattern(5000, 2), SendConfirm::Acked);
        rig.engine.pause(conn);
        rig.engine.close(conn);
        let before = rig.seen.len();
        rig.send(conn, b"too late", SendConfirm::Closed);
        rig.engine.resume(conn);
        rig.engine.probe(conn);
        rig.engine.shutdown(conn);
        rig.engine.abort(conn);
        drop(client);
        rig.settle();
        // But for what had happened before.
        let about = |fact: &Seen| !matches!(fact, Seen::Accepted(_) | Seen::Sent(_));
        let later: Vec<&Seen> = rig.seen[before..].iter().filter(|fact| about(fact)).collect();
        assert!(later.is_empty(), "{later:?}");
    }
}

fn slots_are_used_again_under_another_generation<E: Engine>(make: impl Fn(Listeners) -> E) {
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
    assert!(generations.len() < 4, "slots are reused: {generations:?}");
}

fn a_paused_peer_feels_back_pressure<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.engine.pause(conn);
    rig.settle();
    client.set_nonblocking(true).unwrap();
    let mut sent = Vec::new();
    loop {
        let chunk = pattern(64 * 1024, sent.len());
        match client.write(&chunk) {
            Ok(count) => sent.extend_from_slice(&chunk[..count]),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent.len() < 64 << 20, "nothing stops the peer");
        rig.turn(Duration::ZERO);
    }
    rig.settle();
    let early = rig.received(conn).len();
    assert!(early < sent.len());
    // Pausing and resuming at once loses nothing and doubles nothing.
    for _ in 0..3 {
        rig.engine.resume(conn);
        rig.engine.pause(conn);
        rig.engine.pause(conn);
        rig.engine.resume(conn);
        rig.engine.resume(conn);
        rig.turn(Duration::from_millis(1));
    }
    rig.until("all of it", |seen| received(seen, conn).len() >= sent.len());
    assert!(rig.received(conn) == sent);
}

fn the_end_is_told_of_a_paused_connection_in_question<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for pause_first in [true, false] {
        let (mut client, conn) = rig.connect();
        if pause_first {
            rig.engine.pause(conn);
            rig.settle();
        }
        client.write_all(b"pipelined").unwrap();
        rig.sent(conn, b"run", SendConfirm::Closed);
        if !pause_first {
            rig.engine.pause(conn);
            rig.settle();
        }
        client.read_exact(&mut [0; 3]).unwrap();
        drop(client);
        rig.until("closed", |seen| has_closed(seen, conn));
        let facts = rig.closed(conn).unwrap().unwrap();
        assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");
        rig.engine.close(conn);
    }
}

fn a_probe_counts_what_the_kernel_does_not_have_yet<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    let probed = |rig: &mut Rig<E>| {
        let before = rig.seen.len();
        rig.engine.probe(conn);
        rig.until("probed", |seen| seen[before..].iter().any(|fact| matches!(fact, Seen::Probed(..))));
        let found = rig.seen[before..].iter().find_map(|fact| match fact {
            Seen::Probed(of, facts) if *of == conn => Some(*facts),
            _ => None,
        });
        found.unwrap()
    };
    let facts = probed(&mut rig);
    assert!(facts.alive && facts.unacked_bytes == 0, "{facts:?}");

    let body = pattern(12 << 20, 4);
    rig.send(conn, &body, SendConfirm::Closed);
    rig.settle();
    let facts = probed(&mut rig);
    assert!(facts.alive && facts.unacked_bytes <= body.len() as u64, "{facts:?}");
    let mut read = vec![0; 1 << 20];
    client.read_exact(&mut read).unwrap();
    rig.settle();
    let later = probed(&mut rig);
    assert!(later.unacked_bytes > 0 && later.unacked_bytes < facts.unacked_bytes, "{facts:?} {later:?}");
    // The read million is acknowledged, and what the peer's kernel holds besides.
    assert!(later.unacked_bytes <= (body.len() - read.len()) as u64);
}

fn acknowledgements_are_told_once_and_after_the_sending<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for len in [1, 2, 100, 523, 524, 525, 1048, 1049, 1600, 2500, 300_000, 3 << 20] {
        let (mut client, conn) = rig.connect();
        for round in 0..3 {
            let body = pattern(len, round);
            // Responses of which nobody asks for a confirmation count too.
            rig.sent(conn, b"connect", SendConfirm::None);
            rig.send(conn, &body, SendConfirm::Acked);
            let reader = thread::spawn(move || {
                let mut read = vec![0; len + 7];
                client.read_exact(&mut read).unwrap();
                (client, read)
            });
            rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round + 1);
            let read;
            (client, read) = reader.join().unwrap();
            assert!(read[7..] == body, "{len}");
            let sent = rig.seen.iter().rposition(|fact| *fact == Seen::Sent(conn));
            let acked = rig.seen.iter().rposition(|fact| *fact == Seen::Acked(conn));
            assert!(sent < acked, "{len}: {:?}", rig.last_seen());
            assert_eq!(rig.count(&Seen::Sent(conn)), 2 * (round + 1));
        }
    }
}

fn acknowledgements_do_not_wait_for_the_peer_s_delay<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    const ROUNDS: usize = 40;
    let len = |round: usize| 200 + 131 * round;
    let (mut client, conn) = rig.connect();
    // A kept connection, and a reader that answers each response with one small request.
    let reader = thread::spawn(move || {
        for round in 0..ROUNDS {
            client.read_exact(&mut vec![0; len(round)]).unwrap();
            thread::sleep(Duration::from_millis(1));
            client.write_all(b"poll").unwrap();
        }
        client
    });
    let mut slow = 0;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        rig.send(conn, &pattern(len(round), round), SendConfirm::Acked);
        rig.until("acked", |seen| count(seen, &Seen::Acked(conn)) == round + 1);
        slow += usize::from(begin.elapsed() > Duration::from_millis(35));
        rig.until("the next poll", |seen| received(seen, conn).len() == 4 * (round + 1));
    }
    reader.join().unwrap();
    assert!(slow < 10, "{slow} of {ROUNDS} acknowledgements came late");
}

fn an_acknowledgement_comes_behind_a_fin<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    let body = pattern(12 << 20, 5);
    rig.send(conn, &body, SendConfirm::Acked);
    rig.settle();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| has_closed(seen, conn));
    assert!(rig.closed(conn).unwrap().unwrap().unacked_bytes > 0);
    let reader = thread::spawn(move || {
        let mut read = vec![0; 12 << 20];
        client.read_exact(&mut read).unwrap();
        (client, read)
    });
    // By the stamp, or by asking: the core does both.
    rig.until("sent", |seen| seen.contains(&Seen::Sent(conn)));
    let (_client, read) = reader.join().unwrap();
    assert!(read == body);
    let end = Instant::now() + PATIENCE;
    while !rig.seen.contains(&Seen::Acked(conn)) {
        rig.engine.probe(conn);
        rig.settle();
        let all_acked =
            |fact: &Seen| matches!(fact, Seen::Probed(_, facts) if facts.alive && facts.unacked_bytes == 0);
        if rig.seen.iter().any(all_acked) {
            break;
        }
        assert!(Instant::now() < end);
    }
}

fn a_wake_up_ends_a_wait_before_and_during_it<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    rig.settle();
    let waker = rig.engine.waker();
    for _ in 0..5 {
        waker.wake();
        waker.wake();
        let begin = Instant::now();
        rig.turn(PATIENCE);
        assert!(begin.elapsed() < PATIENCE / 2, "a wake before the wait is remembered");
        // What two wakes brought may take two turns.
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
        assert!(begin.elapsed() < PATIENCE / 2, "a wake ends the wait");
        other.join().unwrap();
        rig.settle();
    }
    let begin = Instant::now();
    rig.turn(A_WHILE);
    assert!(begin.elapsed() >= A_WHILE, "a wake counts once");
}

fn a_wait_ends_in_time<E: Engine>(make: impl Fn(Listeners) -> E) {
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

fn a_shut_down_connection_still_reads<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.connect();
    rig.sent(conn, b"refused", SendConfirm::None);
    rig.engine.shutdown(conn);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"refused");
    client.write_all(b"the rest of a request").unwrap();
    rig.until("the rest", |seen| received(seen, conn) == b"the rest of a request");
    drop(client);
    rig.until("closed", |seen| has_closed(seen, conn));
}

fn a_thousand_connections_get_their_own_answers<E: Engine>(make: impl Fn(Listeners) -> E) {
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

fn queued_connections_are_served_after_the_end_of_accepting<E: Engine>(make: impl Fn(Listeners) -> E) {
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

fn whoever_drops_the_engine_closes_its_connections<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut idle, _) = rig.connect();
    let (mut closed, conn) = rig.connect();
    let (sending, busy) = rig.connect();
    rig.send(busy, &pattern(12 << 20, 1), SendConfirm::Acked);
    rig.settle();
    // Not carried out before the drop.
    rig.engine.close(conn);
    drop(rig);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(closed.read(&mut [0; 1]).unwrap(), 0);
    drop(sending);
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
