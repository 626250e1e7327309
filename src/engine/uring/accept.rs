//! Accepts connections: a limited number per turn, a retry when descriptors or memory run out, and no connection lost
//! when accepting stops.

use super::Uring;
use super::op::{Kind, Op};
use super::ring::Completion;
use crate::broker::contract::Side;
use crate::engine::accepting::{ACCEPTS_PER_TURN, RETRY_AFTER, next_may_succeed};
use crate::engine::fact::Fact;
use crate::sys::listen::Listener;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

/// Connections admitted per turn while the kernel still has completions of older connections. One enter reports about
/// this many ends of connections.
const ACCEPTS_PER_BUSY_TURN: usize = 16;

/// A listener, and the accept that is armed on it.
pub struct Acceptor {
    pub side: Side,
    /// `None` once the engine has closed it.
    listener: Option<Listener>,
    /// An accept is under way.
    pub armed: bool,
    /// The engine is cancelling that accept, and arms it again after it has admitted the newcomers.
    pub pausing: bool,
    /// The engine accepts no more.
    pub stopping: bool,
    retry_at: Option<Instant>,
}

/// What follows a failed accept.
#[derive(PartialEq, Eq)]
enum Failure {
    /// No descriptor or memory; the queue keeps its connections until the retry.
    Exhausted,
    /// The connection had ended before the kernel accepted it, or the engine cancelled the accept.
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

    /// The listener to arm an accept on; `None` if an accept is under way, a retry is due later or the engine has
    /// stopped accepting.
    fn arm(&mut self) -> Option<BorrowedFd<'_>> {
        self.retry_at.take_if(|at| *at <= Instant::now());
        if self.armed || self.stopping || self.retry_at.is_some() {
            return None;
        }
        self.armed = self.listener.is_some();
        self.listener.as_ref().map(|listener| listener.as_fd())
    }

    fn failed(&mut self, errno: i32) -> Failure {
        if next_may_succeed(errno) {
            return Failure::Gone;
        }
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        Failure::Exhausted
    }

    /// When to retry an accept that found no descriptor or memory.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The next connection that the kernel has queued; closes the listener after the last. No operation is under
    /// way on the listener, so the close takes effect immediately.
    fn accept_queued(&mut self) -> Option<io::Result<OwnedFd>> {
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

/// Connections that the kernel has accepted and the engine has not admitted. One accept takes every queued
/// connection, and goes on as long as more arrive. So the engine pauses the accept while more newcomers wait than a
/// turn admits.
pub struct Newcomers {
    queue: VecDeque<(OwnedFd, Side)>,
    left_in_turn: usize,
    /// The engine admits all of them in this turn.
    are_last: bool,
}

impl Newcomers {
    pub fn new() -> Newcomers {
        Newcomers { queue: VecDeque::new(), left_in_turn: ACCEPTS_PER_TURN, are_last: false }
    }

    fn push(&mut self, fd: OwnedFd, side: Side) {
        self.queue.push_back((fd, side));
    }

    /// Whether any are waiting, perhaps for the next turn.
    pub fn are_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next newcomer, if the turn admits one more.
    fn take(&mut self) -> Option<(OwnedFd, Side)> {
        if self.left_in_turn == 0 && !self.are_last {
            return None;
        }
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
        self.queue.pop_front()
    }

    /// Begins a turn. `is_busy`: the kernel has more completions than it has posted.
    pub fn begin_turn(&mut self, is_busy: bool) {
        self.left_in_turn = if is_busy { ACCEPTS_PER_BUSY_TURN } else { ACCEPTS_PER_TURN };
    }

    /// Call it when the engine stops accepting: it then need not serve older connections between newcomers.
    pub fn admit_all(&mut self) {
        self.are_last = true;
    }
}

impl Uring {
    pub(super) fn arm_accepts(&mut self) {
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            if let Some(listener) = acceptor.arm() {
                self.ring.accept(listener, Op::of_engine(Kind::Accept, number));
            }
        }
    }

    /// Accepts while no newcomer waits for its admission.
    pub(super) fn arm_or_pause_accepts(&mut self) {
        if !self.newcomers.are_waiting() {
            return self.arm_accepts();
        }
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.armed && !std::mem::replace(&mut acceptor.pausing, true) {
                self.ring.cancel(Op::of_engine(Kind::Accept, number));
            }
        }
    }

    /// Handles the completion of an accept.
    pub(super) fn accepted(&mut self, number: usize, completion: &Completion) {
        let acceptor = &mut self.acceptors[number];
        let side = acceptor.side;
        if !completion.more {
            acceptor.armed = false;
            acceptor.pausing = false;
        }
        if completion.result >= 0 {
            // SAFETY: the kernel has just opened it for us, and nothing else refers to it.
            let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
            self.newcomers.push(fd, side);
        } else if acceptor.failed(-completion.result) == Failure::Exhausted {
            self.facts.push_back(Fact::AcceptFailed);
        }
        if !completion.more {
            self.accept_all_queued(number);
        }
    }

    /// Takes what the kernel has queued on a listener that accepts no more, and closes it.
    pub(super) fn accept_all_queued(&mut self, number: usize) {
        let acceptor = &mut self.acceptors[number];
        if !acceptor.stopping || acceptor.armed {
            return;
        }
        let side = acceptor.side;
        while let Some(taken) = self.acceptors[number].accept_queued() {
            if let Ok(fd) = taken {
                self.newcomers.push(fd, side);
            }
        }
    }

    /// Admits the next newcomer, if there is one. The engine reports newcomers last in a turn: the broker gets
    /// what older connections have sent before a newer one needs room. Completions that overflowed the queue come
    /// in the next turn, and newcomers after them.
    pub(super) fn admit_newcomer(&mut self) -> Option<()> {
        if self.ring.has_overflowed() {
            return None;
        }
        let (fd, side) = self.newcomers.take()?;
        match self.sockets.open(fd) {
            Ok(conn) => {
                self.admitted = Some(conn);
                self.facts.push_back(Fact::Accepted { conn, side });
            }
            // No slot: the descriptor is dropped.
            Err(_) => self.facts.push_back(Fact::AcceptFailed),
        }
        Some(())
    }
}
