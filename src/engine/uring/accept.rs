//! Accepting: patience when descriptors or memory run out, and no connection lost at the end.

use crate::broker::contract::Side;
use crate::engine::accepting::{RETRY_AFTER, next_may_be_well};
use crate::sys::listen::Listener;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// One listener.
pub struct Acceptor {
    /// Which of the broker's listeners it is.
    pub side: Side,
    /// `None` once it has been closed.
    listener: Option<Listener>,
    /// An accept is under way.
    pub armed: bool,
    /// No new accept is wanted.
    pub stopping: bool,
    retry_at: Option<Instant>,
}

/// What became of an accept that failed.
#[derive(PartialEq, Eq)]
pub enum Failure {
    /// No descriptor or memory; the queue keeps until the retry.
    Exhausted,
    /// That connection was gone before it was accepted, or the accept was cancelled.
    Gone,
}

impl Acceptor {
    /// `listener` is listening and non-blocking.
    pub fn new(side: Side, listener: Listener) -> Acceptor {
        Acceptor { side, listener: Some(listener), armed: false, stopping: false, retry_at: None }
    }

    /// The listener to arm an accept on, unless one is under way, due later or not wanted.
    pub fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        if self.armed || self.stopping || self.retry_at.is_some() {
            return None;
        }
        self.armed = self.listener.is_some();
        self.listener.as_ref().map(|listener| listener.as_fd())
    }

    /// An accept failed with `errno`.
    pub fn failed(&mut self, errno: i32) -> Failure {
        if next_may_be_well(errno) {
            return Failure::Gone;
        }
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        Failure::Exhausted
    }

    /// When an exhausted queue is to be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Forgets a retry that is due.
    pub fn end_patience(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }

    /// The next connection that the kernel has queued; closes the listener behind the last. Nothing
    /// is under way on it, so that the closing takes effect at once.
    pub fn drain_one(&mut self) -> Option<io::Result<OwnedFd>> {
        let accepted = match self.listener.as_ref()? {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| stream.into()),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
        };
        match accepted {
            Ok(fd) => Some(Ok(fd)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.listener = None;
                None
            }
            Err(error) => {
                let exhausted = self.failed(error.raw_os_error().unwrap_or(0)) == Failure::Exhausted;
                if exhausted {
                    self.listener = None;
                }
                Some(Err(error))
            }
        }
    }
}
