//! Tests of TLS over both engines, with rustls as the client, over real sockets.

#[path = "../../../tests/support/pki.rs"]
mod pki;

use super::session::{RECORD_BYTES_MAX, Session};
use super::*;
use crate::broker::contract::Side;
use crate::broker::io::TcpFacts;
use crate::engine::epoll::Epoll;
#[cfg(feature = "io-uring")]
use crate::engine::uring::{Sizes, Uring};
use crate::sys::listen::Listener;
use crate::sys::tls::Files;
use pki::{Authority, Pair};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(60);
const INCOMPLETE_BYTES_MAX: usize = 1 << 20;

type Listeners = Vec<(Side, Listener)>;
type Stream = StreamOwned<ClientConnection, TcpStream>;

macro_rules! for_each_engine {
    ($($name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(|listeners| super::Epoll::new(listeners, usize::MAX).unwrap()) })*
        }
        #[cfg(feature = "io-uring")]
        mod io_uring {
            $(#[test] fn $name() { super::$name(|listeners| super::quiet(listeners)) })*
        }
        #[cfg(feature = "io-uring")]
        mod tiny_io_uring {
            $(#[test] fn $name() { super::$name(super::tiny) })*
        }
    };
}

for_each_engine! {
    both_versions_send_and_receive
    the_handshake_reports_no_bytes
    a_long_response_is_one_payload_with_one_proof
    the_last_response_ends_with_a_close_notify_and_facts
    a_close_notify_is_the_peer_s_end_unless_a_delivery_awaits_proof
    a_fin_without_close_notify_is_reported
    a_half_closed_session_still_reads
    invalid_tls_fails_with_an_alert
    incomplete_records_are_bounded
    a_closed_connection_drops_its_session
    a_side_without_tls_passes_through
}

#[cfg(feature = "io-uring")]
fn quiet(listeners: Listeners) -> Uring {
    Uring::with_sizes(listeners, Sizes::default()).unwrap()
}

#[cfg(feature = "io-uring")]
fn tiny(listeners: Listeners) -> Uring {
    let sizes =
        Sizes { submissions: 4, completions: 8, buffers: 4, buffer_bytes: 64, ring_from_completions: 0 };
    Uring::with_sizes(listeners, sizes).unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Accepted(ConnId, Side),
    Received(ConnId, Vec<u8>),
    Sent(ConnId),
    Acked(ConnId),
    PeerClosed(ConnId, Option<TcpFacts>),
    Reset(ConnId),
    Probed(ConnId, TcpFacts),
}

struct Rig<E> {
    engine: Tls<E>,
    runner: SocketAddr,
    dispatch: SocketAddr,
    authority: Authority,
    seen: Vec<Seen>,
}

fn identity(pair: &Pair) -> Arc<Identity> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("pilotlight-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    let (cert, key) = pair.write(&folder, "server");
    let identity = Identity::load(Files { cert, key, client_ca: None }).unwrap();
    fs::remove_dir_all(folder).unwrap();
    identity
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

impl<E: Engine> Rig<E> {
    /// The runner side with TLS, the dispatch side without.
    fn new(make: impl Fn(Listeners) -> E) -> Rig<E> {
        let authority = Authority::new("tests");
        let identities = Identities { runner: Some(identity(&authority.server())), dispatch: None };
        let ((runner, runner_addr), (dispatch, dispatch_addr)) = (listener(), listener());
        let listeners = vec![(Side::Runner, runner.into()), (Side::Dispatch, dispatch.into())];
        let mut engine = Tls::new(make(listeners), &identities, INCOMPLETE_BYTES_MAX);
        engine.begin().unwrap();
        Rig { engine, runner: runner_addr, dispatch: dispatch_addr, authority, seen: Vec::new() }
    }

    fn turn(&mut self, timeout: Duration) {
        self.engine.wait(Some(timeout)).unwrap();
        while let Some(fact) = self.engine.next_fact() {
            self.seen.push(match fact {
                Input::Accepted { conn, side } => Seen::Accepted(conn, side),
                Input::Received { conn, bytes } => Seen::Received(conn, bytes.to_vec()),
                Input::Sent { conn } => Seen::Sent(conn),
                Input::Acked { conn } => Seen::Acked(conn),
                Input::PeerClosed { conn, facts } => Seen::PeerClosed(conn, facts),
                Input::Reset { conn } => Seen::Reset(conn),
                Input::Probed { conn, facts } => Seen::Probed(conn, facts),
                other => panic!("{other:?}"),
            });
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&[Seen]) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(&self.seen) {
            let last = &self.seen[self.seen.len().saturating_sub(9)..];
            assert!(Instant::now() < end, "{what}: {last:?}");
            self.turn(Duration::from_millis(20));
        }
    }

    fn settle(&mut self) {
        let end = Instant::now() + A_WHILE;
        while Instant::now() < end {
            self.turn(Duration::from_millis(5));
        }
    }

    /// Runs turns until the client's thread has ended.
    fn join<T>(&mut self, thread: JoinHandle<T>) -> T {
        while !thread.is_finished() {
            self.turn(Duration::from_millis(2));
        }
        thread.join().unwrap()
    }

    fn config(&self) -> Arc<ClientConfig> {
        pki::client(&self.authority.pem, None, &[&TLS12, &TLS13])
    }

    fn accepted(&mut self, connect: SocketAddr) -> (TcpStream, ConnId) {
        let before = self.seen.len();
        let stream = TcpStream::connect(connect).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let accepted = |seen: &[Seen]| {
            seen[before..].iter().find_map(|fact| match fact {
                Seen::Accepted(conn, _) => Some(*conn),
                _ => None,
            })
        };
        self.until("accepted", |seen| accepted(seen).is_some());
        (stream, accepted(&self.seen).unwrap())
    }

    /// A client that has finished its handshake and has sent `hello`.
    fn connect(&mut self) -> (Stream, ConnId) {
        let config = self.config();
        self.connect_with(&config)
    }

    fn connect_with(&mut self, config: &Arc<ClientConfig>) -> (Stream, ConnId) {
        let (tcp, conn) = self.accepted(self.runner);
        let session = pki::session(config);
        let stream = self.join(thread::spawn(move || {
            let mut stream = StreamOwned::new(session, tcp);
            stream.write_all(b"hello").unwrap();
            stream.flush().unwrap();
            stream
        }));
        self.until("hello", |seen| received(seen, conn) == b"hello");
        (stream, conn)
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8], confirm: SendConfirm) {
        self.engine.send(conn, Payload::Shared(Arc::new(bytes.into())), confirm);
    }

    /// Reads exactly `len` bytes on the client.
    fn read(&mut self, mut stream: Stream, len: usize) -> (Stream, Vec<u8>) {
        self.join(thread::spawn(move || {
            let mut read = vec![0; len];
            stream.read_exact(&mut read).unwrap();
            (stream, read)
        }))
    }

    fn count(&self, fact: &Seen) -> usize {
        self.seen.iter().filter(|other| *other == fact).count()
    }

    fn closed(&self, conn: ConnId) -> Option<Option<TcpFacts>> {
        self.seen.iter().rev().find_map(|fact| match fact {
            Seen::PeerClosed(of, facts) if *of == conn => Some(*facts),
            _ => None,
        })
    }
}

fn received(seen: &[Seen], conn: ConnId) -> Vec<u8> {
    let bytes = seen.iter().filter_map(|fact| match fact {
        Seen::Received(of, bytes) if *of == conn => Some(bytes.as_slice()),
        _ => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31) ^ index >> 8) as u8).collect()
}

fn both_versions_send_and_receive<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for version in [&TLS12, &TLS13] {
        let config = pki::client(&rig.authority.pem, None, &[version]);
        let (stream, conn) = rig.connect_with(&config);
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        rig.send(conn, b"an answer", SendConfirm::None);
        let (mut stream, read) = rig.read(stream, 9);
        assert_eq!(read, b"an answer");
        rig.until("sent", |seen| seen.contains(&Seen::Sent(conn)));
        let body = pattern(300_000);
        let sent = body.clone();
        let stream = rig.join(thread::spawn(move || {
            stream.write_all(&sent).unwrap();
            stream
        }));
        rig.until("the body", |seen| received(seen, conn).len() == 5 + body.len());
        assert!(received(&rig.seen, conn)[5..] == body);
        drop(stream);
    }
    assert_eq!(rig.engine.handshakes(), Handshakes { done: 2, failed: 0 });
}

fn the_handshake_reports_no_bytes<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for version in [&TLS12, &TLS13] {
        let config = pki::client(&rig.authority.pem, None, &[version]);
        let (tcp, conn) = rig.accepted(rig.runner);
        let before = rig.seen.len();
        let mut session = pki::session(&config);
        // One byte at a time, as a slow or a hostile client sends it.
        let stream = rig.join(thread::spawn(move || {
            let mut tcp = tcp;
            while session.is_handshaking() || session.wants_write() {
                let mut flight = Vec::new();
                while session.wants_write() {
                    session.write_tls(&mut flight).unwrap();
                }
                for byte in flight {
                    tcp.write_all(&[byte]).unwrap();
                }
                if session.is_handshaking() {
                    session.read_tls(&mut tcp).unwrap();
                    session.process_new_packets().unwrap();
                }
            }
            StreamOwned::new(session, tcp)
        }));
        rig.settle();
        assert_eq!(rig.seen[before..], [], "no byte, no Sent");
        rig.engine.close(conn);
        let mut stream = stream;
        // A clean end: a close_notify, then a FIN.
        let end = rig.join(thread::spawn(move || stream.read(&mut [0; 1]).map_err(|error| error.kind())));
        assert_eq!(end, Ok(0));
    }
}

fn a_long_response_is_one_payload_with_one_proof<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for confirm in [SendConfirm::None, SendConfirm::Acked] {
        let (mut stream, conn) = rig.connect();
        let body = pattern(8 << 20);
        for round in 1..=2 {
            rig.send(conn, &body, confirm);
            rig.settle();
            assert_eq!(rig.count(&Seen::Sent(conn)), round - 1, "the kernel cannot have taken it all");
            assert_eq!(
                rig.count(&Seen::Acked(conn)),
                if confirm == SendConfirm::Acked { round - 1 } else { 0 }
            );
            let read;
            (stream, read) = rig.read(stream, body.len());
            assert!(read == body);
            rig.until("sent", |seen| seen.iter().filter(|fact| **fact == Seen::Sent(conn)).count() == round);
            if confirm == SendConfirm::Acked {
                rig.until("acked", |seen| {
                    seen.iter().filter(|fact| **fact == Seen::Acked(conn)).count() == round
                });
            }
        }
        rig.engine.probe(conn);
        rig.until("probed", |seen| matches!(seen.last(), Some(Seen::Probed(of, _)) if *of == conn));
        rig.engine.close(conn);
    }
}

fn the_last_response_ends_with_a_close_notify_and_facts<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for len in [1, 1_500, 16_384, 300_000] {
        // The client reads everything and closes: that proves the delivery.
        let (mut stream, conn) = rig.connect();
        let body = pattern(len);
        rig.send(conn, &body, SendConfirm::Closed);
        let read = rig.join(thread::spawn(move || {
            let mut read = Vec::new();
            // It succeeds only if a close_notify comes.
            stream.read_to_end(&mut read).unwrap();
            read
        }));
        assert!(read == body);
        rig.until("closed", |seen| {
            seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, _) if *of == conn))
        });
        rig.settle();
        let facts = rig.closed(conn).unwrap().expect("a delivery awaits its proof");
        assert!(facts.alive && facts.unacked_bytes == 0, "{len}: {facts:?}");
        rig.engine.close(conn);

        // The client closes with the run unread: no proof.
        let (stream, conn) = rig.connect();
        rig.send(conn, &body, SendConfirm::Closed);
        rig.settle();
        drop(stream);
        rig.until("the end", |seen| {
            seen.iter().any(|fact| match fact {
                Seen::Reset(of) => *of == conn,
                Seen::PeerClosed(of, Some(facts)) => *of == conn && !facts.alive,
                _ => false,
            })
        });
        rig.engine.close(conn);
    }
}

fn a_close_notify_is_the_peer_s_end_unless_a_delivery_awaits_proof<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut stream, conn) = rig.connect();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    rig.until("closed", |seen| seen.contains(&Seen::PeerClosed(conn, None)));
    // The client still gets its answer.
    rig.send(conn, b"an answer", SendConfirm::None);
    let (_stream, read) = rig.read(stream, 9);
    assert_eq!(read, b"an answer");
    assert_eq!(received(&rig.seen, conn), b"hello");

    // While a delivery awaits its proof, the close_notify proves nothing; the FIN after it does.
    let (mut stream, conn) = rig.connect();
    rig.send(conn, b"a run", SendConfirm::Closed);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    rig.settle();
    assert_eq!(rig.closed(conn), None);
    let (stream, read) = rig.read(stream, 5);
    assert_eq!(read, b"a run");
    stream.sock.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| {
        seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, Some(_)) if *of == conn))
    });

    // A close_notify that comes meanwhile is reported once the delivery is settled.
    let (mut stream, conn) = rig.connect();
    rig.send(conn, b"a run", SendConfirm::Acked);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    rig.until("acked", |seen| seen.contains(&Seen::Acked(conn)));
    rig.until("closed", |seen| seen.contains(&Seen::PeerClosed(conn, None)));
}

fn a_fin_without_close_notify_is_reported<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (stream, conn) = rig.connect();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    rig.until("closed", |seen| seen.contains(&Seen::PeerClosed(conn, None)));
    let (stream, conn) = rig.connect();
    rig.send(conn, b"a run", SendConfirm::Closed);
    // The client takes the records from the kernel without decrypting them.
    let tcp = rig.join(thread::spawn(move || {
        let mut tcp = stream.sock;
        tcp.read_to_end(&mut Vec::new()).unwrap();
        tcp
    }));
    drop(tcp);
    rig.until("closed", |seen| {
        seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, Some(_)) if *of == conn))
    });
    assert!(rig.closed(conn).unwrap().unwrap().alive);
}

fn a_half_closed_session_still_reads<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (stream, conn) = rig.connect();
    rig.send(conn, b"refused", SendConfirm::None);
    rig.engine.half_close(conn);
    let (stream, rest) = rig.join(thread::spawn(move || {
        let mut stream = stream;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"refused");
        stream.write_all(b"the rest of a request").unwrap();
        stream.flush().unwrap();
        (stream, all)
    }));
    assert_eq!(rest, b"refused");
    rig.until("the rest", |seen| received(seen, conn) == b"hellothe rest of a request");
    drop(stream);
    rig.until("closed", |seen| {
        seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, _) if *of == conn))
    });
}

fn invalid_tls_fails_with_an_alert<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (bystander, other) = rig.connect();
    let garbage: [&[u8]; 4] = [
        b"GET /warm-start HTTP/1.1\r\nhost: broker\r\n\r\n",
        &[0xff; 300],
        // An alert, and application data, before the peers have agreed on keys.
        &[21, 3, 3, 0, 2, 2, 40],
        &[23, 3, 3, 0, 4, 1, 2, 3, 4],
    ];
    for bytes in garbage {
        let (mut client, conn) = rig.accepted(rig.runner);
        client.write_all(bytes).unwrap();
        rig.until("reported", |seen| seen.contains(&Seen::Reset(conn)));
        rig.engine.close(conn);
        let alert = rig.join(thread::spawn(move || {
            let mut alert = Vec::new();
            let _ = client.read_to_end(&mut alert);
            alert
        }));
        assert_eq!(received(&rig.seen, conn), b"");
        // An alert gets no answer.
        assert!(bytes[0] == 21 || alert.first() == Some(&21), "{alert:?}");
    }
    assert_eq!(rig.engine.handshakes(), Handshakes { done: 1, failed: 4 });

    // After the handshake, a corrupted record ends the connection too.
    let (stream, conn) = rig.connect();
    (&stream.sock)
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
        .unwrap();
    rig.until("reported", |seen| seen.contains(&Seen::Reset(conn)));
    rig.engine.close(conn);
    assert_eq!(received(&rig.seen, conn), b"hello");
    assert_eq!(rig.engine.handshakes(), Handshakes { done: 2, failed: 4 });

    rig.send(other, b"unharmed", SendConfirm::None);
    assert_eq!(rig.read(bystander, 8).1, b"unharmed");
}

fn incomplete_records_are_bounded<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    // A handshake message of 60 KB in many records: the layer keeps at most one record per connection.
    let (client, conn) = rig.accepted(rig.runner);
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(30_000, 0);
    let records: Vec<u8> =
        hello.chunks(500).flat_map(|part| [&[22, 3, 1, 1, 0xf4][..], part].concat()).collect();
    let mut writer = client.try_clone().unwrap();
    rig.join(thread::spawn(move || writer.write_all(&records))).unwrap();
    rig.until("refused", |seen| seen.contains(&Seen::Reset(conn)));
    rig.engine.close(conn);

    // Incomplete records of many connections: more than all connections together may own.
    let mut clients = Vec::new();
    for _ in 0..INCOMPLETE_BYTES_MAX / 16_000 + 8 {
        let (mut client, conn) = rig.accepted(rig.runner);
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.resize(16_000, 0);
        client.write_all(&record).unwrap();
        clients.push((client, conn));
    }
    rig.until("refused", |seen| {
        clients.iter().filter(|(_, conn)| seen.contains(&Seen::Reset(*conn))).count() > 0
    });
    rig.settle();
    let refused: Vec<ConnId> =
        clients.iter().map(|(_, conn)| *conn).filter(|conn| rig.seen.contains(&Seen::Reset(*conn))).collect();
    assert!(!refused.is_empty() && refused.len() < 30, "{}", refused.len());
    assert!(rig.engine.shortages().records > 0);
    assert!(rig.engine.incomplete_bytes <= INCOMPLETE_BYTES_MAX + refused.len() * (RECORD_BYTES_MAX + 64));
    clients.iter().for_each(|(_, conn)| rig.engine.close(*conn));
    assert_eq!(rig.engine.incomplete_bytes, 0, "closed connections own nothing");
}

fn a_closed_connection_drops_its_session<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    for round in 0..20 {
        let (stream, conn) = rig.connect();
        rig.send(conn, &pattern(5_000), SendConfirm::Acked);
        match round % 2 {
            0 => rig.engine.close(conn),
            _ => rig.engine.abort(conn),
        }
        let before = rig.seen.len();
        rig.send(conn, b"too late", SendConfirm::None);
        rig.engine.half_close(conn);
        rig.engine.close(conn);
        drop(stream);
        rig.settle();
        let later: Vec<&Seen> = rig.seen[before..]
            .iter()
            .filter(|fact| !matches!(fact, Seen::Sent(_) | Seen::Acked(_)))
            .collect();
        assert!(later.is_empty(), "{later:?}");
    }
    let in_use = rig.engine.slots.iter().filter(|slot| matches!(slot.user, User::Secure(_))).count();
    assert_eq!(in_use, 0);
    assert!(rig.engine.slots.len() < 6, "the layer reuses slots");
}

fn a_side_without_tls_passes_through<E: Engine>(make: impl Fn(Listeners) -> E) {
    let mut rig = Rig::new(make);
    let (mut client, conn) = rig.accepted(rig.dispatch);
    client.write_all(b"POST").unwrap();
    rig.until("bytes", |seen| received(seen, conn) == b"POST");
    rig.send(conn, b"true", SendConfirm::Closed);
    let read = rig.join(thread::spawn(move || {
        let mut read = Vec::new();
        client.read_to_end(&mut read).unwrap();
        read
    }));
    assert_eq!(read, b"true");
    rig.until("closed", |seen| {
        seen.iter().any(|fact| matches!(fact, Seen::PeerClosed(of, Some(_)) if *of == conn))
    });
    assert!(rig.seen.contains(&Seen::Accepted(conn, Side::Dispatch)) && rig.seen.contains(&Seen::Sent(conn)));
    let (mut client, conn) = rig.accepted(rig.dispatch);
    rig.engine.abort(conn);
    rig.settle();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_idle_session_is_small() {
    let authority = Authority::new("tests");
    let session = Session::new(Current::of(&identity(&authority.server())).config()).unwrap();
    assert_eq!(session.incomplete_bytes(), 0);
    println!("{} {}", size_of::<Secure>(), size_of::<Session>());
    assert!(size_of::<Secure>() <= 2_048, "{}", size_of::<Secure>());
}
