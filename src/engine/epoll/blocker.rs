//! The part of the engine that blocks, and the waker that ends the block.

use crate::engine::interface::{Blocker, Wake};
use mio::event::Event;
use mio::{Events, Poll, Registry, Token};
use std::io::{self, ErrorKind};
use std::time::Duration;

pub const WAKE_TOKEN: Token = Token(usize::MAX);
/// Events taken from the kernel per turn.
const EVENTS_PER_TURN: usize = 1024;

/// Blocks in epoll_wait(2).
pub struct EpollBlocker {
    poll: Poll,
    events: Events,
}

impl EpollBlocker {
    pub fn new(poll: Poll) -> EpollBlocker {
        EpollBlocker { poll, events: Events::with_capacity(EVENTS_PER_TURN) }
    }

    /// The events that ended the last block.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }
}

impl Blocker for EpollBlocker {
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// Ends a block from another thread, through an eventfd.
pub struct Waker(mio::Waker);

impl Waker {
    pub fn new(registry: &Registry) -> io::Result<Waker> {
        mio::Waker::new(registry, WAKE_TOKEN).map(Waker)
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // It fails only if the eventfd is gone, and the engine with it.
        let _ = self.0.wake();
    }
}
