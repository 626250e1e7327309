//! Accepting: a budget per turn, and patience when descriptors or memory run out.

use crate::broker::contract::Side;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// Connections accepted per listener and turn. A herd of thousands is taken in over many turns, and
/// dispatches are served between them.
pub const ACCEPTS_PER_TURN: usize = 64;
/// After EMFILE, ENFILE, ENOBUFS or ENOMEM: the queue is tried again then, not in a spin.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// One listener.
pub struct Acceptor {
    /// Which of the broker's listeners it is.
    pub side: Side,
    listener: TcpListener,
    retry_at: Option<Instant>,
}

/// What one try brought.
pub enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// That connection was gone before it was accepted.
    Gone,
    /// The queue is empty.
    Empty,
    /// No descriptor or memory; the queue keeps until the retry.
    Exhausted,
}

impl Acceptor {
    /// `listener` is listening and non-blocking.
    pub fn new(side: Side, listener: std::net::TcpListener) -> Acceptor {
        Acceptor { side, listener: TcpListener::from_std(listener), retry_at: None }
    }

    /// Asks for edges.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.listener.register(registry, token, Interest::READABLE)
    }

    /// Takes one connection off the queue.
    pub fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, _)) => Accepted::Stream(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Empty,
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    self.retry_at = Some(Instant::now() + RETRY_AFTER);
                    Accepted::Exhausted
                }
                // accept(2): errors of the new connection itself; the next one may be well.
                _ => Accepted::Gone,
            },
        }
    }

    /// When an exhausted queue is to be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// True once when the retry is due.
    pub fn take_due_retry(&mut self) -> bool {
        let due = self.retry_at.is_some_and(|at| at <= Instant::now());
        if due {
            self.retry_at = None;
        }
        due
    }
}
