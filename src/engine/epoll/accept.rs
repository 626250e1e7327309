//! Accepting: patience when descriptors or memory run out.

use crate::broker::contract::Side;
use crate::engine::accepting::{RETRY_AFTER, next_may_be_well};
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

/// One listener.
pub struct Acceptor {
    /// Which of the broker's listeners it is.
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
        // A type for each family would double the engine: what it does to a stream is the same for both, and
        // what only TCP has is asked of polls, which come over TCP alone.
        Ok(TcpStream::from_std(accepted.into()))
    }
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
    pub fn new(side: Side, listener: Listener) -> Acceptor {
        let listener = match listener {
            Listener::Tcp(listener) => Queue::Tcp(TcpListener::from_std(listener)),
            Listener::Unix(listener) => Queue::Unix(listener),
        };
        Acceptor { side, listener, retry_at: None }
    }

    /// Asks for edges.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.listener {
            Queue::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Queue::Unix(listener) => {
                SourceFd(&listener.as_raw_fd()).register(registry, token, Interest::READABLE)
            }
        }
    }

    /// Takes one connection off the queue.
    pub fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok(stream) => Accepted::Stream(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Empty,
            Err(error) if error.raw_os_error().is_some_and(next_may_be_well) => Accepted::Gone,
            Err(_) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                Accepted::Exhausted
            }
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
