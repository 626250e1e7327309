//! Accepting: a budget per turn, patience when descriptors or memory run out, and no connection lost at the end.

use crate::broker::contract::Side;
use crate::engine::accepting::{ACCEPTS_PER_TURN, RETRY_AFTER, next_may_be_well};
use crate::sys::listen::Listener;
use std::collections::VecDeque;
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
    /// ... and is being cancelled, until newcomers have been taken in.
    pub pausing: bool,
    /// No new accept is wanted.
    pub stopping: bool,
    retry_at: Option<Instant>,
}

/// Connections taken in per turn while the kernel has more to tell of older ones: no more than it would tell of all
/// their ends besides.
const ACCEPTS_PER_BUSY_TURN: usize = 16;

/// Connections that the kernel has accepted and that are not taken in yet. An accept takes all that is queued, and
/// goes on for as long as more come: so it pauses while there are more than a turn takes in.
pub struct Newcomers {
    queue: VecDeque<(OwnedFd, Side)>,
    left_in_turn: usize,
    /// None is left for another turn.
    are_last: bool,
}

impl Newcomers {
    /// None.
    pub fn new() -> Newcomers {
        Newcomers { queue: VecDeque::new(), left_in_turn: ACCEPTS_PER_TURN, are_last: false }
    }

    /// One more.
    pub fn push(&mut self, fd: OwnedFd, side: Side) {
        self.queue.push_back((fd, side));
    }

    /// Some wait, perhaps for the next turn.
    pub fn are_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next one, if the turn has room for it.
    pub fn take(&mut self) -> Option<(OwnedFd, Side)> {
        if self.left_in_turn == 0 && !self.are_last {
            return None;
        }
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
        self.queue.pop_front()
    }

    /// A turn has begun; the kernel has more to tell, or nothing.
    pub fn begin_turn(&mut self, is_busy: bool) {
        self.left_in_turn = if is_busy { ACCEPTS_PER_BUSY_TURN } else { ACCEPTS_PER_TURN };
    }

    /// No more are accepted: nobody is to wait for those that are there.
    pub fn are_last(&mut self) {
        self.are_last = true;
    }
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
        Acceptor {
            side,
            listener: Some(listener),
            armed: false,
            pausing: false,
            stopping: false,
            retry_at: None,
        }
    }

    /// The listener to arm an accept on, unless one is under way, due later or not wanted.
    pub fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.retry_at.take_if(|at| *at <= Instant::now());
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
