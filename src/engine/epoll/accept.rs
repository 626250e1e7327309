//! Accepts connections, and retries after a while when descriptors or memory run out.

use super::Epoll;
use super::ready::Ready;
use super::sockets::{GENERATION_MASK, Socket, token};
use crate::broker::contract::Side;
use crate::broker::io::ConnId;
use crate::engine::accepting::{ACCEPTS_PER_TURN, RETRY_AFTER, next_may_succeed};
use crate::engine::fact::Fact;
use crate::sys::calls;
use crate::sys::listen::Listener;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::Instant;

/// Tokens of acceptors count down from here; they are above every slot and generation in use.
const ACCEPTOR_TOKENS: usize = usize::MAX - 1;

/// A listener in epoll.
pub struct Acceptor {
    pub side: Side,
    listener: Queue,
    retry_at: Option<Instant>,
}

enum Queue {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Queue {
    fn accept(&self) -> io::Result<TcpStream> {
        let accepted = match self {
            Queue::Tcp(listener) => calls::accept(listener),
            Queue::Unix(listener) => calls::accept(listener),
        }?;
        // A second type for the Unix family would double the engine. The engine treats the streams of both
        // families the same. It uses TCP-only features for polls alone, and polls come over TCP.
        Ok(TcpStream::from_std(accepted.into()))
    }
}

/// What one accept brought.
enum Accepted {
    Stream(TcpStream),
    /// The connection was gone before the engine accepted it.
    Gone,
    /// The queue is empty.
    Empty,
    /// No descriptor or memory; the queue keeps its connections until the retry.
    Exhausted,
}

impl Acceptor {
    /// `listener` is listening and non-blocking.
    pub fn new(side: Side, listener: Listener) -> Acceptor {
        let listener = match listener {
            Listener::Tcp(listener) => Queue::Tcp(TcpListener::from_std(listener)),
            Listener::Unix(listener) => Queue::Unix(listener),
        };
        Acceptor { side, listener, retry_at: None }
    }

    /// Makes epoll report new connections as edges.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.listener {
            Queue::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Queue::Unix(listener) => {
                SourceFd(&listener.as_raw_fd()).register(registry, token, Interest::READABLE)
            }
        }
    }

    fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok(stream) => Accepted::Stream(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Empty,
            Err(error) if error.raw_os_error().is_some_and(next_may_succeed) => Accepted::Gone,
            Err(_) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                Accepted::Exhausted
            }
        }
    }

    /// When to retry an accept that found no descriptor or memory.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns true once when the retry is due.
    pub fn take_due_retry(&mut self) -> bool {
        let due = self.retry_at.is_some_and(|at| at <= Instant::now());
        if due {
            self.retry_at = None;
        }
        due
    }
}

impl Epoll {
    /// Accepts from the acceptor with this number, up to a turn's share.
    pub(super) fn accept(&mut self, number: usize) {
        let side = self.acceptors[number].side;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptors[number].accept() {
                Accepted::Stream(stream) => self.admit(stream, side),
                Accepted::Gone => {}
                Accepted::Empty => return,
                Accepted::Exhausted => return self.facts.push_back(Fact::AcceptFailed),
            }
        }
        self.leftover.push(Ready::reading(acceptor_token(number)));
    }

    /// Accepts everything that the kernel has queued, then closes the listener.
    pub(super) fn accept_all(&mut self, mut acceptor: Acceptor) {
        let side = acceptor.side;
        loop {
            match acceptor.accept() {
                Accepted::Stream(stream) => self.admit(stream, side),
                Accepted::Gone => {}
                Accepted::Empty | Accepted::Exhausted => break,
            }
        }
    }

    /// Takes over a new connection; drops it if epoll has no room for it.
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
        entry.insert(Socket::new(stream, generation));
        self.facts.push_back(Fact::Accepted { conn, side });
    }
}

/// The token of the acceptor with this number.
pub fn acceptor_token(number: usize) -> Token {
    Token(ACCEPTOR_TOKENS - number)
}

/// The number of the acceptor with this token. Tokens of connections give a number beyond the last acceptor.
pub fn acceptor_number(token: Token) -> Option<usize> {
    ACCEPTOR_TOKENS.checked_sub(token.0)
}
