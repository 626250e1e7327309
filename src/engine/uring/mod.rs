//! The io_uring engine: one `io_uring_enter` per turn submits the requests of the last turn and returns with what has
//! become ready.
//!
//! Accepts and receives are multishot: armed once, they complete again and again. A receive takes one of the worker's
//! buffers when bytes are there, so an idle connection holds none. The kernel runs completions only inside the enter
//! (DEFER_TASKRUN). A turn with more requests than the queue holds calls enter early. A receive that fails there
//! takes the connection's error, and a later query would find the connection healthy. So a probe waits until no
//! completion is left.
//!
//! An operation owns what it refers to until its last completion. Response bytes and messages stay in the engine's
//! tables until then. The engine frees a connection's slot only when none of its operations is under way.
//!
//! Sockets are in blocking mode, which only means that the kernel waits for the ring's operations. The engine's own
//! system calls never block.

// With `sys`, the only folder with unsafe code; each block says why it is sound.
#![allow(unsafe_code)]

mod accept;
mod arming;
mod buffers;
mod closing;
mod completed;
mod immediate;
mod messages;
mod op;
mod outgoing;
mod ring;
mod sending;
mod sizes;
mod sockets;
mod stable;
mod wake;

pub use sizes::Sizes;

use super::ack_checks::{AckChecks, ChecksAcks};
use super::ack_expectation::AckExpectation;
use super::fact::Fact;
use super::interface::{Engine, NeverBlocks, Shortages, Wake};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::listen::Listener;
use crate::sys::tcp::{self, Remote};
use accept::{Acceptor, Newcomers};
use buffers::{Buffers, Received};
use messages::{ErrorMessage, SendMessage};
use op::{Kind, Op, op};
use outgoing::Outgoing;
use ring::Ring;
use slab::Slab;
use sockets::{NO_SEND, Sockets};
use stable::Pool;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wake::EventFd;

pub struct Uring {
    // Dropped first: its operations may use the fields below.
    ring: Ring,
    buffers: Buffers,
    sends: Slab<Outgoing>,
    sockets: Sockets,
    send_messages: Pool<SendMessage>,
    error_messages: Pool<ErrorMessage>,
    acceptors: Vec<Acceptor>,
    newcomers: Newcomers,
    /// The last admitted newcomer; the engine receives from it after it has reported it.
    admitted: Option<ConnId>,
    waker: Arc<EventFd>,
    facts: VecDeque<Fact>,
    /// Probes, which the engine answers after the last completion.
    probes: VecDeque<ConnId>,
    /// The broker reset a connection in this turn, and the kernel may not have carried out the reset yet.
    resets_due: bool,
    /// The buffer that the engine lends to the broker.
    lent: Option<u16>,
    /// Connections whose receive found no buffer, oldest first. Each turn arms as many of them again as there are
    /// buffers, so that a burst costs each connection one failure or two, not hundreds.
    starved: VecDeque<ConnId>,
    buffers_exhausted: u64,
    completions_of_turn: usize,
    /// In a turn with this many completions or more, responses go through the ring.
    ring_from_completions: usize,
    ack_checks: AckChecks,
    ack_expectation: AckExpectation,
    /// The kernel is too old for checks after a send through the ring.
    ring_checks_refused: bool,
}

impl Uring {
    /// An engine that accepts from `listeners`, which are listening and non-blocking.
    pub fn with_sizes(listeners: Vec<(Side, Listener)>, sizes: Sizes) -> io::Result<Uring> {
        let ring = Ring::new(sizes.submissions, sizes.completions)?;
        let buffers = Buffers::register(&ring, sizes.buffers, sizes.buffer_bytes)?;
        let acceptors = listeners.into_iter().map(|(side, listener)| Acceptor::new(side, listener));
        Ok(Uring {
            ring,
            buffers,
            sends: Slab::new(),
            sockets: Sockets::default(),
            send_messages: Pool::default(),
            error_messages: Pool::default(),
            acceptors: acceptors.collect(),
            newcomers: Newcomers::new(),
            admitted: None,
            waker: Arc::new(EventFd::new()?),
            facts: VecDeque::new(),
            probes: VecDeque::new(),
            resets_due: false,
            lent: None,
            starved: VecDeque::new(),
            buffers_exhausted: 0,
            completions_of_turn: 0,
            ring_from_completions: sizes.ring_from_completions,
            ack_checks: AckChecks::default(),
            ack_expectation: AckExpectation::new(true),
            ring_checks_refused: false,
        })
    }

    /// Whether io_uring works here. Sets up a small engine and drops it.
    pub fn probe_kernel() -> io::Result<()> {
        let mut engine =
            Self::with_sizes(Vec::new(), Sizes { submissions: 8, completions: 16, ..Sizes::default() })?;
        engine.begin()
    }

    /// Whether there is something to report or to arm again, so that the next turn must not wait.
    fn is_busy(&mut self) -> bool {
        let to_report = !self.facts.is_empty() || !self.probes.is_empty() || self.newcomers.are_waiting();
        to_report || !self.starved.is_empty() || self.ring.completions() > 0
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.ring.end();
        // Close the connections that the kernel accepted and the engine has not taken over.
        while let Some(completion) = self.ring.next() {
            if completion.op.kind == Kind::Accept && completion.result >= 0 {
                // SAFETY: the kernel has opened it for us, and nothing else refers to it.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
        }
    }
}

impl Engine for Uring {
    type Blocker = NeverBlocks;

    fn begin(&mut self) -> io::Result<()> {
        self.arm_waker();
        self.arm_accepts();
        self.ring.enable()
    }

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        if socket.send != NO_SEND {
            debug_assert!(false, "a send is under way, and the kernel reads its bytes");
            return self.facts.push_back(Fact::Reset(conn));
        }
        socket.awaits_proof = confirm != SendConfirm::None;
        socket.stale_checks = socket.checks_under_way;
        let paused = !socket.reading;
        self.begin_send(conn, payload, confirm);
        if paused {
            self.rearm_watch(conn);
        }
    }

    fn pause(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_open(conn) else { return };
        socket.reading = false;
        if socket.receiving && !socket.receive_cancelled {
            socket.receive_cancelled = true;
            self.ring.cancel(op(Kind::Receive, conn));
        } else {
            self.arm_watch(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_open(conn) {
            socket.reading = true;
            // If the cancelled receive has not ended yet, its end arms the next one.
            self.arm_receive(conn);
            self.rearm_watch(conn);
        }
    }

    fn half_close(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_open(conn) {
            socket.half_close();
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.begin_close(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_open(conn) {
            // Without it the kernel would still deliver what it has queued to a peer that comes back.
            let _ = socket2::SockRef::from(&socket.fd()).set_linger(Some(Duration::ZERO));
            self.begin_close(conn);
            self.resets_due = true;
        }
    }

    fn probe(&mut self, conn: ConnId) {
        self.probes.push_back(conn);
    }

    fn remote(&mut self, conn: ConnId) -> Option<Remote> {
        self.sockets.get_open(conn).and_then(|socket| tcp::remote(socket.fd()))
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        // The engine reports the bytes of finished receives before it accepts.
        self.sockets.get_open(conn).is_some_and(|socket| tcp::has_unread(socket.fd()))
    }

    fn stop_accepting(&mut self) {
        self.newcomers.admit_all();
        for number in 0..self.acceptors.len() {
            let acceptor = &mut self.acceptors[number];
            acceptor.stopping = true;
            if acceptor.armed {
                self.ring.cancel(Op::of_engine(Kind::Accept, number));
            } else {
                self.accept_all_queued(number);
            }
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        let is_busy = self.is_busy();
        // Requests that complete within the enter, sends above all, need no wait.
        self.ring.submit()?;
        Ok(is_busy)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        for _ in 0..self.buffers.count() {
            let Some(conn) = self.starved.pop_front() else { break };
            self.receive_or_watch(conn);
        }
        self.arm_or_pause_accepts();
        let until_check = self.check_due_acks();
        let timeout = timeout.into_iter().chain(until_check).min();
        let retry = self.acceptors.iter().filter_map(|acceptor| acceptor.retry_at()).min();
        let timeout = match (timeout, retry) {
            _ if self.is_busy() => Some(Duration::ZERO),
            (timeout, None) => timeout,
            (timeout, Some(at)) => {
                let until = at.saturating_duration_since(Instant::now());
                Some(timeout.map_or(until, |timeout| timeout.min(until)))
            }
        };
        self.ring.enter(timeout)?;
        self.completions_of_turn = self.ring.completions();
        self.newcomers.begin_turn(self.ring.has_more());
        self.resets_due = false;
        Ok(())
    }

    fn next_fact(&mut self) -> Option<Input<'_>> {
        if let Some(buffer) = self.lent.take() {
            self.buffers.give_back(buffer);
        }
        if let Some(conn) = self.admitted.take_if(|_| self.facts.is_empty()) {
            self.arm_receive(conn);
        }
        loop {
            if let Some(fact) = self.facts.pop_front() {
                return Some(fact.into_input());
            }
            let Some(completion) = self.ring.next() else {
                if let Some(conn) = self.probes.pop_front() {
                    self.answer_probe(conn);
                } else {
                    self.admit_newcomer()?;
                }
                continue;
            };
            if let Some(Received { conn, buffer, len }) = self.complete(completion) {
                self.lent = Some(buffer);
                return Some(Input::Received { conn, bytes: self.buffers.filled(buffer, len) });
            }
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn shortages(&self) -> Shortages {
        Shortages { buffers: self.buffers_exhausted, completions: self.ring.overflows, records: 0 }
    }
}
