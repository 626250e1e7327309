//! One set of tests for all engines, over real sockets.

mod lifetime;
mod receiving;
mod sending;

use super::Engine;
use super::epoll::Epoll;
#[cfg(feature = "io-uring")]
use super::uring::{Sizes, Uring};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm, TcpFacts};
use crate::sys::descriptors::Descriptors;
use crate::sys::listen::Listener;
use crate::sys::tcp;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what is on its way to arrive, or not to.
const A_WHILE: Duration = Duration::from_millis(60);
/// What the broker uses with `--confirm ack`.
const SEGMENT_BYTES: u32 = 1_000;

type Listeners = Vec<(Side, Listener)>;

macro_rules! for_each_engine {
    ($($subject:ident::$name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::Epoll::new(listeners, usize::MAX).unwrap()) })*
        }
        /// The same, and every acknowledgement is looked for.
        mod watching_epoll {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::Epoll::new(listeners, 0).unwrap()) })*
        }
        #[cfg(feature = "io-uring")]
        mod io_uring {
            $(#[test] fn $name() { super::$subject::$name(|listeners| super::Uring::new(listeners).unwrap()) })*
        }
        /// The same, and every response goes through the ring.
        #[cfg(feature = "io-uring")]
        mod busy_io_uring {
            $(#[test] fn $name() { super::$subject::$name(super::busy) })*
        }
        /// Where everything runs short all the time, the facts are the same.
        #[cfg(feature = "io-uring")]
        mod tiny_io_uring {
            $(#[test] fn $name() { super::$subject::$name(super::tiny) })*
        }
    };
}

for_each_engine! {
    receiving::bytes_arrive_in_order_however_they_are_cut
    receiving::a_fin_is_told_with_facts_only_if_something_is_in_question
    receiving::a_close_with_unread_bytes_is_a_reset
    receiving::a_reset_is_told
    receiving::a_reset_behind_a_fin_is_told_while_bytes_are_unacknowledged
    receiving::a_paused_peer_feels_back_pressure
    receiving::the_end_is_told_of_a_paused_connection_in_question
    receiving::a_reset_is_told_of_a_paused_connection
    receiving::a_reset_is_told_of_a_connection_paused_amid_its_bytes
    receiving::a_reset_is_told_of_a_paused_connection_behind_an_acknowledgement
    sending::a_large_response_reaches_a_slow_reader_whole
    sending::an_abort_resets_and_a_close_delivers
    sending::an_abort_takes_back_what_is_not_sent
    sending::a_probe_counts_what_the_kernel_does_not_have_yet
    sending::a_reset_goes_out_with_what_is_sent_next
    sending::a_probe_does_not_overlook_a_reset
    sending::acknowledgements_are_told_once_and_after_the_sending
    sending::acknowledgements_do_not_wait_for_the_peer_s_delay
    sending::what_is_only_sent_is_not_acknowledged
    sending::an_acknowledgement_that_was_expected_at_once_may_come_late
    sending::an_acknowledgement_comes_behind_a_fin
    sending::an_acknowledgement_comes_ahead_of_a_reset_behind_it
    sending::a_shut_down_connection_still_reads
    lifetime::a_closed_connection_is_heard_of_no_more
    lifetime::slots_are_used_again_under_another_generation
    lifetime::a_wake_up_ends_a_wait_before_and_during_it
    lifetime::a_wait_ends_in_time
    lifetime::a_thousand_connections_get_their_own_answers
    lifetime::a_herd_is_taken_in_over_many_turns
    lifetime::queued_connections_are_served_after_the_end_of_accepting
    lifetime::a_listener_that_somebody_shut_down_is_survived
    lifetime::whoever_drops_the_engine_closes_its_connections
}

#[test]
fn an_acknowledgement_is_told_with_the_sending_where_the_peer_is_near() {
    for ack_check_from_events in [usize::MAX, 0] {
        sending::an_acknowledgement_is_told_with_the_sending(|listeners| {
            Epoll::new(listeners, ack_check_from_events).unwrap()
        });
    }
    #[cfg(feature = "io-uring")]
    sending::an_acknowledgement_is_told_with_the_sending(|listeners| Uring::new(listeners).unwrap());
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

/// Closes so that a reset goes out instead of a FIN.
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
        tcp::limit_segments(listener.as_fd(), SEGMENT_BYTES).unwrap();
        let mut engine = make(vec![(Side::Runner, listener.into())]);
        engine.begin().unwrap();
        Rig { engine, addr, seen: Vec::new() }
    }

    /// Begins a turn, which the next one ends; answers whether bytes are the first that it tells.
    fn tells_bytes(&mut self) -> bool {
        self.engine.wait(Some(A_WHILE)).unwrap();
        matches!(self.engine.next_fact(), Some(Input::Received { .. }))
    }

    /// One turn; answers how many facts it brought.
    fn turn(&mut self, timeout: Duration) -> usize {
        let before = self.seen.len();
        self.engine.wait(Some(timeout)).unwrap();
        self.take_facts();
        self.seen.len() - before
    }

    /// All that there is to tell just now.
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
                other => panic!("no engine says {other:?}"),
            });
        }
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
        self.accepted(client)
    }

    /// The client has room for about so many bytes.
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
