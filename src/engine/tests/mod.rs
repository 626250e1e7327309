//! One set of tests for both engines, over real sockets.

mod lifetime;
mod receiving;
mod sending;

use super::epoll::Epoll;
use super::interface::Engine;
#[cfg(feature = "io-uring")]
use super::uring::{Sizes, Uring};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm, TcpFacts};
use crate::sys::descriptors::Descriptors;
use crate::sys::listen::Listener;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for everything that is under way on loopback to arrive.
const A_WHILE: Duration = Duration::from_millis(60);
/// What the broker uses with `--confirm ack`.
const SEGMENT_BYTES: u32 = 1_000;

type Listeners = Vec<(Side, Listener)>;

macro_rules! for_each_engine {
    ($($subject:ident::$name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::Epoll::new(listeners, usize::MAX).unwrap()) })*
        }
        /// The same, but the engine polls for every acknowledgement.
        mod busy_epoll {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::Epoll::new(listeners, 0).unwrap()) })*
        }
        #[cfg(feature = "io-uring")]
        mod io_uring {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::quiet(listeners)) })*
        }
        /// The same, but every response goes through the ring.
        #[cfg(feature = "io-uring")]
        mod busy_io_uring {
            $(#[test] fn $name() { super::$subject::$name(super::busy) })*
        }
        /// The same, but queues and buffers run short all the time.
        #[cfg(feature = "io-uring")]
        mod tiny_io_uring {
            $(#[test] fn $name() { super::$subject::$name(super::tiny) })*
        }
    };
}

for_each_engine! {
    receiving::bytes_arrive_in_order
    receiving::a_fin_brings_facts_only_if_a_delivery_awaits_proof
    receiving::a_close_with_unread_bytes_is_a_reset
    receiving::a_reset_is_reported
    receiving::a_reset_after_a_fin_is_reported
    receiving::a_paused_peer_feels_back_pressure
    receiving::the_end_of_a_paused_connection_that_awaits_proof_is_reported
    receiving::a_reset_of_a_paused_connection_is_reported
    receiving::a_reset_of_a_connection_paused_amid_its_bytes_is_reported
    receiving::a_reset_of_a_paused_connection_after_an_ack_is_reported
    sending::a_slow_reader_gets_a_large_response
    sending::an_abort_resets_and_a_close_delivers
    sending::an_abort_drops_what_is_not_sent
    sending::a_probe_counts_unsent_bytes
    sending::a_reset_goes_out_before_the_next_send
    sending::a_probe_does_not_miss_a_reset
    sending::an_ack_is_reported_once_and_after_sent
    sending::acks_do_not_wait_for_the_peer_s_delay
    sending::sent_bytes_are_not_acknowledged_bytes
    sending::an_ack_expected_immediately_may_come_late
    sending::an_ack_after_a_fin_is_reported
    sending::an_ack_is_reported_before_the_reset_that_follows
    sending::a_half_closed_connection_still_reads
    lifetime::a_closed_connection_reports_nothing_more
    lifetime::a_reused_slot_has_a_new_generation
    lifetime::a_wake_up_ends_one_wait
    lifetime::a_wait_ends_in_time
    lifetime::a_thousand_connections_get_their_own_answers
    lifetime::a_burst_is_accepted_over_many_turns
    lifetime::queued_connections_are_served_after_accepting_stops
    lifetime::a_listener_that_fails_does_not_spin
    lifetime::a_dropped_engine_closes_its_connections
}

#[test]
fn the_ack_of_a_near_peer_is_reported_with_sent() {
    for ack_check_from_events in [usize::MAX, 0] {
        sending::an_ack_is_reported_with_sent(|listeners| {
            Epoll::new(listeners, ack_check_from_events).unwrap()
        });
    }
    #[cfg(feature = "io-uring")]
    sending::an_ack_is_reported_with_sent(quiet);
}

#[cfg(feature = "io-uring")]
fn quiet(listeners: Listeners) -> Uring {
    Uring::with_sizes(listeners, Sizes::default()).unwrap()
}

#[cfg(feature = "io-uring")]
fn busy(listeners: Listeners) -> Uring {
    Uring::with_sizes(listeners, Sizes { ring_from_completions: 0, ..Sizes::default() }).unwrap()
}

#[cfg(feature = "io-uring")]
fn tiny(listeners: Listeners) -> Uring {
    let sizes =
        Sizes { submissions: 4, completions: 8, buffers: 4, buffer_bytes: 64, ring_from_completions: 0 };
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

/// Closes with a reset instead of a FIN.
fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
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
        socket2::SockRef::from(&listener).set_tcp_mss(SEGMENT_BYTES).unwrap();
        let mut engine = make(vec![(Side::Runner, listener.into())]);
        engine.begin().unwrap();
        Rig { engine, addr, seen: Vec::new() }
    }

    /// Begins a turn; returns whether its first fact is `Received`.
    fn begins_with_bytes(&mut self) -> bool {
        self.engine.wait(Some(A_WHILE)).unwrap();
        matches!(self.engine.next_fact(), Some(Input::Received { .. }))
    }

    /// Runs one turn; returns how many facts it brought.
    fn turn(&mut self, timeout: Duration) -> usize {
        let before = self.seen.len();
        self.engine.wait(Some(timeout)).unwrap();
        self.take_facts();
        self.seen.len() - before
    }

    /// Takes the rest of the turn's facts.
    fn take_facts(&mut self) {
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
                other => panic!("no engine reports {other:?}"),
            });
        }
    }

    /// Runs turns until `done` is true of all facts so far.
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

    /// Runs turns for a while.
    fn settle(&mut self) {
        let end = Instant::now() + A_WHILE;
        while Instant::now() < end {
            self.turn(Duration::from_millis(5));
        }
    }

    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.addr).unwrap();
        self.accepted(client)
    }

    /// Connects with a receive buffer of about this size.
    fn connect_with_room(&mut self, bytes: usize) -> (TcpStream, ConnId) {
        use socket2::{Domain, Socket, Type};
        let client = Socket::new(Domain::for_address(self.addr), Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(bytes).unwrap();
        client.connect(&self.addr.into()).unwrap();
        self.accepted(client.into())
    }

    fn accepted(&mut self, client: TcpStream) -> (TcpStream, ConnId) {
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
        self.engine.send(conn, Payload::Shared(std::sync::Arc::new(bytes.into())), confirm);
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
