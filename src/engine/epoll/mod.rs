//! The epoll engine, on mio: edge-triggered, reads into one scratch buffer per core.
//!
//! In the steady state a request costs one `read` and a response one `write`: a read that does not
//! fill the buffer has emptied the socket (the next byte is a new edge), and writability is asked
//! for only after a write that fell short.

mod accept;
mod acks;
mod outgoing;

use super::accepting::ACCEPTS_PER_TURN;
use super::ack_checks::{AckChecks, ChecksAcks, FIRST_CHECK};
use super::ack_timestamps::AckTimestamps;
use super::fact::Fact;
use super::{Engine, Sleep, Wake, kernel_view};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::calls;
use crate::sys::listen::Listener;
use crate::sys::tcp::{self, Remote};
use accept::{Accepted, Acceptor};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use outgoing::{Outgoing, Progress};
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Read at one go. A connection gets one read of a turn, and one more where that emptied the socket and
/// more came meanwhile.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Events taken from the kernel per turn.
const EVENTS_PER_TURN: usize = 1024;

const WAKE_TOKEN: Token = Token(usize::MAX);
/// Tokens of acceptors count down from here; above every slot and generation in use.
const ACCEPTOR_TOKENS: usize = usize::MAX - 1;

/// One connection's socket.
struct Socket {
    stream: TcpStream,
    generation: u32,
    paused: bool,
    /// Unread bytes or an unread FIN may be there, announced by an edge that won't come again.
    unread: bool,
    /// It has had its share of this turn, and is in `leftover`.
    queued: bool,
    /// The peer's FIN has been announced.
    fin: bool,
    /// A send's delivery is in question: report the kernel's view with the FIN.
    in_question: bool,
    /// It has carried a response, or the beginning of one.
    answered: bool,
    /// Which acknowledgement is awaited (confirm `ack`).
    stamps: AckTimestamps,
    /// An acknowledgement is looked for.
    watched: bool,
    /// That of the last response was there when the send was over.
    acks_at_once: Option<bool>,
    /// What the kernel has not taken yet.
    outgoing: Option<Box<Outgoing>>,
}

impl Socket {
    /// Bytes that the kernel has not been given yet.
    fn unsent(&self) -> u64 {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.remaining() as u64)
    }
}

/// A connection's readiness, as taken from an event or left over from the last turn.
#[derive(Clone, Copy)]
struct Ready {
    token: Token,
    readable: bool,
    writable: bool,
    error: bool,
    fin: bool,
}

/// One core's engine.
pub struct Epoll {
    registry: Registry,
    /// Until it is taken out.
    sleeper: Option<Sleeper>,
    waker: Arc<EventFd>,
    acceptors: Vec<Acceptor>,
    sockets: Slab<Socket>,
    /// How often each slot has been used.
    generations: Vec<u32>,
    scratch: Box<[u8]>,
    /// This turn's readiness and how far it has been handled.
    batch: Vec<Ready>,
    cursor: usize,
    /// Readiness that is left for the next turn, so that one busy peer can't starve the others.
    leftover: Vec<Ready>,
    facts: VecDeque<Fact>,
    looks: AckChecks,
    /// The last acknowledgement that was asked for was there when the send was over.
    acks_at_once: bool,
    /// From as many events in a turn on acknowledgements are looked for.
    ack_check_from_events: usize,
}

/// What waits for events.
pub struct Sleeper {
    poll: Poll,
    events: Events,
}

impl Sleep for Sleeper {
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

struct EventFd(Waker);

impl Wake for EventFd {
    fn wake(&self) {
        // Fails only if the eventfd is gone, and with it the engine that would be woken.
        let _ = self.0.wake();
    }
}

impl Epoll {
    /// An engine that accepts from `listeners`, which are listening and non-blocking.
    /// Acknowledgements that are not there when a send is over are looked for in turns that bring
    /// `ack_check_from_events` events or more; in other turns the kernel announces them.
    pub fn new(listeners: Vec<(Side, Listener)>, ack_check_from_events: usize) -> io::Result<Epoll> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(EventFd(Waker::new(&registry, WAKE_TOKEN)?));
        let mut acceptors = Vec::new();
        for (index, (side, listener)) in listeners.into_iter().enumerate() {
            let mut acceptor = Acceptor::new(side, listener);
            acceptor.register(&registry, Token(ACCEPTOR_TOKENS - index))?;
            acceptors.push(acceptor);
        }
        Ok(Epoll {
            registry,
            sleeper: Some(Sleeper { poll, events: Events::with_capacity(EVENTS_PER_TURN) }),
            waker,
            acceptors,
            sockets: Slab::new(),
            generations: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            batch: Vec::new(),
            cursor: 0,
            leftover: Vec::new(),
            facts: VecDeque::new(),
            looks: AckChecks::default(),
            acks_at_once: false,
            ack_check_from_events,
        })
    }

    /// Takes in a new connection; it is dropped if epoll has no room for it.
    fn admit(&mut self, mut stream: TcpStream, side: Side) {
        let entry = self.sockets.vacant_entry();
        let slot = entry.key() as u32;
        if self.generations.len() <= slot as usize {
            self.generations.push(0);
        }
        let generation = self.generations[slot as usize].wrapping_add(1) & GENERATION_MASK;
        self.generations[slot as usize] = generation;
        let conn = ConnId { slot, generation };
        if self.registry.register(&mut stream, token(conn), Interest::READABLE).is_err() {
            return self.facts.push_back(Fact::AcceptFailed);
        }
        entry.insert(Socket {
            stream,
            generation,
            paused: false,
            unread: false,
            queued: false,
            fin: false,
            in_question: false,
            answered: false,
            stamps: AckTimestamps::default(),
            watched: false,
            acks_at_once: None,
            outgoing: None,
        });
        self.facts.push_back(Fact::Accepted { conn, side });
    }

    fn accept(&mut self, index: usize) {
        let side = self.acceptors[index].side;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptors[index].accept() {
                Accepted::Stream(stream) => self.admit(stream, side),
                Accepted::Gone => {}
                Accepted::Empty => return,
                Accepted::Exhausted => return self.facts.push_back(Fact::AcceptFailed),
            }
        }
        self.leftover.push(Ready::reading(Token(ACCEPTOR_TOKENS - index)));
    }

    /// Handles one readiness as far as its first fact; what remains of it stays in the batch.
    fn advance(&mut self, ready: Ready) -> Option<Received> {
        if let Some(index) = ACCEPTOR_TOKENS.checked_sub(ready.token.0)
            && index < self.acceptors.len()
        {
            self.accept(index);
            return None;
        }
        let conn = conn_id(ready.token);
        let socket = socket(&mut self.sockets, conn)?;
        socket.fin |= ready.fin;
        socket.unread |= ready.readable;
        if ready.error && self.look_at_errors(conn, ready.fin) {
            return None;
        }
        if ready.readable && self.sockets[conn.slot as usize].watched {
            // Whoever sends its next request has most likely acknowledged the last response with it.
            self.look_once(conn);
        }
        if ready.writable {
            self.write_on(conn);
        }
        if !self.facts.is_empty() {
            // Told in the order in which it was found: bytes come after an acknowledgement.
            self.cursor -= 1;
            self.batch[self.cursor] = Ready { error: false, writable: false, ..ready };
            return None;
        }
        self.read(conn)
    }

    /// Goes on with a write that fell short.
    fn write_on(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        let Some(mut outgoing) = socket.outgoing.take() else { return };
        match outgoing.write(&socket.stream, &mut socket.stamps) {
            Ok(Progress::Done) => {
                let _ = self.registry.reregister(&mut socket.stream, token(conn), Interest::READABLE);
                self.facts.push_back(Fact::Sent(conn));
            }
            Ok(Progress::Blocked) => socket.outgoing = Some(outgoing),
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    fn read(&mut self, conn: ConnId) -> Option<Received> {
        let socket = socket(&mut self.sockets, conn)?;
        if socket.in_question && socket.fin {
            // The answer to whether the peer has read everything; nothing that it may have sent
            // before its FIN matters any more.
            socket.unread = false;
            self.facts.push_back(peer_closed(socket, conn));
            return None;
        }
        if !socket.unread || socket.paused || socket.queued {
            return None;
        }
        match calls::receive(&socket.stream, &mut self.scratch) {
            Ok(0) => {
                socket.unread = false;
                socket.fin = true;
                self.facts.push_back(peer_closed(socket, conn));
                None
            }
            Ok(count) => {
                socket.unread = count == self.scratch.len() || socket.fin;
                if socket.unread {
                    read_next_turn(socket, conn, &mut self.leftover);
                }
                Some(Received { conn, count })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.unread = false;
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                read_next_turn(socket, conn, &mut self.leftover);
                None
            }
            Err(_) => {
                self.reset(conn);
                None
            }
        }
    }
}

impl Engine for Epoll {
    type Sleeper = Sleeper;

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let checked = confirm == SendConfirm::Acked && !self.has_it_announced(conn);
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        socket.in_question = confirm != SendConfirm::None;
        let is_first = !std::mem::replace(&mut socket.answered, true);
        let mut outgoing = Outgoing::new(payload, confirm, checked, is_first);
        match outgoing.write(&socket.stream, &mut socket.stamps) {
            Ok(Progress::Done) => {
                self.facts.push_back(Fact::Sent(conn));
                if confirm == SendConfirm::Acked {
                    self.look_behind_send(conn, checked);
                }
            }
            Ok(Progress::Blocked) => {
                socket.outgoing = Some(Box::new(outgoing));
                let both = Interest::READABLE | Interest::WRITABLE;
                if self.registry.reregister(&mut socket.stream, token(conn), both).is_err() {
                    self.facts.push_back(Fact::Reset(conn));
                } else if checked {
                    self.check_later(conn, FIRST_CHECK);
                }
            }
            Err(_) => self.facts.push_back(Fact::Reset(conn)),
        }
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            socket.paused = true;
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            socket.paused = false;
            if socket.unread {
                read_next_turn(socket, conn, &mut self.leftover);
            }
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            // A connection that is gone already will say so itself.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if socket(&mut self.sockets, conn).is_some() {
            // Closing the only descriptor takes it out of epoll.
            self.sockets.remove(conn.slot as usize);
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            // Without linger, what is queued would still be delivered to a peer that comes back.
            let _ = socket2::SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
            self.sockets.remove(conn.slot as usize);
        }
    }

    fn probe(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            let facts = kernel_view::with_extras(socket.stream.as_fd(), socket.unsent());
            self.facts.push_back(Fact::Probed { conn, facts });
        }
    }

    fn remote(&mut self, conn: ConnId) -> Option<Remote> {
        socket(&mut self.sockets, conn).and_then(|socket| tcp::remote(socket.stream.as_fd()))
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        socket(&mut self.sockets, conn).is_some_and(|socket| tcp::has_unread(socket.stream.as_fd()))
    }

    fn stop_accepting(&mut self) {
        for mut acceptor in std::mem::take(&mut self.acceptors) {
            let side = acceptor.side;
            loop {
                match acceptor.accept() {
                    Accepted::Stream(stream) => self.admit(stream, side),
                    Accepted::Gone => {}
                    Accepted::Empty | Accepted::Exhausted => break,
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(!self.facts.is_empty() || !self.leftover.is_empty())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut sleeper = self.sleeper.take().expect("whoever takes the sleeper out waits with it");
        let slept = sleeper.sleep(self.blocks_for(timeout));
        self.slept(&mut sleeper);
        self.sleeper = Some(sleeper);
        slept
    }

    fn take_blocker(&mut self) -> Option<Sleeper> {
        self.sleeper.take()
    }

    fn blocks_for(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let until_look = self.look();
        if !self.facts.is_empty() || !self.leftover.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry = self.acceptors.iter().filter_map(|acceptor| acceptor.retry_at()).min();
        let until_retry = retry.map(|at| at.saturating_duration_since(Instant::now()));
        timeout.into_iter().chain(until_look).chain(until_retry).min()
    }

    fn slept(&mut self, sleeper: &mut Sleeper) {
        self.batch.clear();
        self.cursor = 0;
        std::mem::swap(&mut self.batch, &mut self.leftover);
        for ready in &self.batch {
            if let Some(socket) = socket(&mut self.sockets, conn_id(ready.token)) {
                socket.queued = false;
            }
        }
        self.batch.extend(sleeper.events.iter().filter(|event| event.token() != WAKE_TOKEN).map(Ready::of));
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.take_due_retry() {
                self.batch.push(Ready::reading(Token(ACCEPTOR_TOKENS - index)));
            }
        }
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        loop {
            if let Some(fact) = self.facts.pop_front() {
                return Some(fact.into_input());
            }
            let ready = *self.batch.get(self.cursor)?;
            self.cursor += 1;
            if let Some(Received { conn, count }) = self.advance(ready) {
                return Some(Input::Received { conn, bytes: &self.scratch[..count] });
            }
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

/// Bytes of `conn` at the start of the scratch buffer.
struct Received {
    conn: ConnId,
    count: usize,
}

impl Ready {
    fn of(event: &Event) -> Ready {
        Ready {
            token: event.token(),
            readable: event.is_readable() || event.is_read_closed(),
            writable: event.is_writable(),
            error: event.is_error(),
            fin: event.is_read_closed(),
        }
    }

    fn reading(token: Token) -> Ready {
        Ready { token, readable: true, writable: false, error: false, fin: false }
    }
}

/// Generations that fit beside a slot without meeting the tokens of the waker and the acceptors.
const GENERATION_MASK: u32 = u32::MAX >> 1;

fn token(conn: ConnId) -> Token {
    Token((conn.generation as usize) << 32 | conn.slot as usize)
}

fn conn_id(token: Token) -> ConnId {
    ConnId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

/// The socket of `conn`, unless its slot has passed to another connection.
fn socket(sockets: &mut Slab<Socket>, conn: ConnId) -> Option<&mut Socket> {
    sockets.get_mut(conn.slot as usize).filter(|socket| socket.generation == conn.generation)
}

/// What is unread of `conn` is read in the next turn: once, however often that is asked for.
fn read_next_turn(socket: &mut Socket, conn: ConnId, leftover: &mut Vec<Ready>) {
    if !std::mem::replace(&mut socket.queued, true) {
        leftover.push(Ready::reading(token(conn)));
    }
}

/// Where bytes are unacknowledged still, what follows is told in the same way: their acknowledgement
/// ends a connection that both sides have closed, which is an event.
fn peer_closed(socket: &mut Socket, conn: ConnId) -> Fact {
    let facts = socket.in_question.then(|| kernel_view::behind_fin(socket.stream.as_fd(), socket.unsent()));
    socket.in_question = facts.is_some_and(|facts| facts.unacked_bytes > 0);
    Fact::PeerClosed { conn, facts }
}
