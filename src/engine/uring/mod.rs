//! The io_uring engine: one `io_uring_enter` per turn submits what the last turn asked for and brings
//! what has become ready.
//!
//! Accepts and receives are multishot: armed once, they report again and again. A receive takes a
//! buffer of the core's when bytes are there, so that an idle connection holds none. The kernel runs
//! completions inside the enter only (DEFER_TASKRUN). A turn that asks for more than the queue holds
//! enters in its middle, and a receive that ends there with the connection's error has taken it: whoever
//! asked then would find the connection well. So a probe waits until no completion is left.
//!
//! An operation owns what it refers to until its last completion: response bytes and messages stand in
//! the engine's tables until then, and a connection's slot is given up only when nothing is under way.
//!
//! Sockets are in blocking mode, which only means that the kernel waits on our behalf; what the engine
//! calls itself never blocks.

// With `sys`, the one place; each block says why it is sound.
#![allow(unsafe_code)]

mod accept;
mod buffers;
mod completed;
mod immediate;
mod op;
mod ring;
mod send;
mod sending;
mod sizes;
mod sockets;
mod stable;
mod wake;

use super::ack_checks::{AckChecks, ChecksAcks};
use super::fact::Fact;
use super::{Engine, NeverBlocks, Shortages, Wake, kernel_view};
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::listen::Listener;
use crate::sys::tcp::{self, Remote};
use accept::{Acceptor, Newcomers};
use buffers::{Buffers, Received};
use op::{Kind, Op};
use ring::Ring;
use send::{Errors, Message, Outgoing};
pub use sizes::Sizes;
use slab::Slab;
use sockets::{NO_SEND, Sockets, op};
use stable::Pool;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wake::EventFd;

/// One core's engine.
pub struct Uring {
    // Dropped first: what follows it may be in use by its operations.
    ring: Ring,
    buffers: Buffers,
    sends: Slab<Outgoing>,
    sockets: Sockets,
    messages: Pool<Message>,
    errors: Pool<Errors>,
    acceptors: Vec<Acceptor>,
    newcomers: Newcomers,
    /// The last newcomer; it is received from once it has been told of.
    admitted: Option<ConnId>,
    waker: Arc<EventFd>,
    facts: VecDeque<Fact>,
    /// Connections whose state is asked for, to be looked at behind the last completion.
    probes: VecDeque<ConnId>,
    /// A connection was reset in this turn, and the kernel may not have heard of it.
    resets_due: bool,
    /// The buffer whose bytes the core is looking at.
    lent: Option<u16>,
    /// Connections whose receive found no buffer, longest first. Each turn begins as many of them anew
    /// as there are buffers, so that a herd costs each connection one failure or two, not hundreds.
    starved: VecDeque<ConnId>,
    buffers_exhausted: u64,
    completions_of_turn: usize,
    /// From as many completions in a turn on responses go through the ring.
    ring_from_completions: usize,
    looks: AckChecks,
    /// The last acknowledgement that was looked for was there when the send was over, or it is the first.
    acks_at_once: bool,
    /// The kernel is too old for looks behind a send.
    looks_refused: bool,
}

impl Uring {
    /// An engine that accepts from `listeners`, which are listening and non-blocking.
    pub fn new(listeners: Vec<(Side, Listener)>) -> io::Result<Uring> {
        Self::with_sizes(listeners, Sizes::default())
    }

    /// The same, of another size.
    pub fn with_sizes(listeners: Vec<(Side, Listener)>, sizes: Sizes) -> io::Result<Uring> {
        let ring = Ring::new(sizes.submissions, sizes.completions)?;
        let buffers = Buffers::register(&ring, sizes.buffers, sizes.buffer_bytes)?;
        let acceptors = listeners.into_iter().map(|(side, listener)| Acceptor::new(side, listener));
        Ok(Uring {
            ring,
            buffers,
            sends: Slab::new(),
            sockets: Sockets::default(),
            messages: Pool::default(),
            errors: Pool::default(),
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
            looks: AckChecks::default(),
            acks_at_once: true,
            looks_refused: false,
        })
    }

    /// Can an engine be had here? Asks for all that it takes, and gives it back.
    pub fn probe_kernel() -> io::Result<()> {
        let mut engine =
            Self::with_sizes(Vec::new(), Sizes { submissions: 8, completions: 16, ..Sizes::default() })?;
        engine.begin()
    }

    fn arm_waker(&mut self) {
        self.ring.poll(self.waker.as_fd(), libc::POLLIN, true, Op::of_engine(Kind::Wake, 0));
    }

    fn arm_accepts(&mut self) {
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if let Some(listener) = acceptor.arm() {
                self.ring.accept(listener, Op::of_engine(Kind::Accept, index));
            }
        }
    }

    /// Accepts while nobody waits to be taken in.
    fn arm_or_pause_accepts(&mut self) {
        if !self.newcomers.are_waiting() {
            return self.arm_accepts();
        }
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.armed && !std::mem::replace(&mut acceptor.pausing, true) {
                self.ring.cancel(Op::of_engine(Kind::Accept, index));
            }
        }
    }

    /// There is something to tell, or to begin anew: the next turn is now.
    fn is_busy(&mut self) -> bool {
        let to_tell = !self.facts.is_empty() || !self.probes.is_empty() || self.newcomers.are_waiting();
        to_tell || !self.starved.is_empty() || self.ring.completions() > 0
    }

    /// Takes in the next new connection, if there is one. It is the last thing to tell: what older ones
    /// have sent is heard before a newer one needs room. Those that the kernel has no room to tell of
    /// (overflow) are heard in the next turn, and newcomers behind them.
    fn take_in_newcomer(&mut self) -> Option<()> {
        if self.ring.has_overflown() {
            return None;
        }
        let (fd, side) = self.newcomers.take()?;
        self.admit(fd, side);
        Some(())
    }

    /// Takes in a new connection; it is dropped if there is no slot for it.
    fn admit(&mut self, fd: OwnedFd, side: Side) {
        match self.sockets.open(fd) {
            Ok(conn) => {
                self.admitted = Some(conn);
                self.facts.push_back(Fact::Accepted { conn, side });
            }
            Err(_) => self.facts.push_back(Fact::AcceptFailed),
        }
    }

    /// Receives from `conn`, unless that is under way, over or not wanted.
    fn arm_receive(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        if socket.reading && !socket.receiving && !socket.fin {
            socket.receiving = true;
            socket.receive_cancelled = false;
            socket.under_way += 1;
            self.ring.receive(socket.fd(), op(Kind::Receive, conn));
        }
    }

    /// Watches for the peer's end where no receive is there to see it: reading is paused, or the FIN
    /// has come but not yet the acknowledgement, or the reset, that follows it. Of a paused connection with
    /// nothing in question only a reset is told: a FIN comes behind bytes that nobody has read.
    fn arm_watch(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        if (socket.in_question || !socket.reading) && !socket.receiving && !socket.watching {
            socket.watching = true;
            socket.under_way += 1;
            let events = match socket.in_question && !socket.fin {
                true => libc::POLLRDHUP,
                false => libc::POLLERR | libc::POLLHUP,
            };
            self.ring.poll(socket.fd(), events, false, op(Kind::Watch, conn));
        }
    }

    /// What is to be watched for has changed.
    fn watch_anew(&mut self, conn: ConnId) {
        match self.sockets.open_one(conn).is_some_and(|socket| socket.watching) {
            true => self.ring.cancel(op(Kind::Watch, conn)),
            false => self.arm_watch(conn),
        }
    }

    /// Takes the next message of the error queue of `conn`, unless that is under way.
    fn arm_errors(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        let Some(acks) = &mut socket.acks else { return };
        if acks.errors.is_some() || acks.stamps.awaited.is_none() {
            return;
        }
        let message = acks.errors.insert(self.errors.take(Errors::new)).prepare();
        socket.under_way += 1;
        // SAFETY: the message stands in `acks` until the completion.
        unsafe { self.ring.receive_error(socket.fd(), message, op(Kind::Errors, conn)) };
    }

    /// Bytes of `conn` that the kernel has not been given.
    fn unsent(&mut self, conn: ConnId) -> u64 {
        let send = self.sockets.get(conn).map_or(NO_SEND, |socket| socket.send);
        self.sends.get(send as usize).map_or(0, |outgoing| outgoing.rest().len() as u64)
    }

    /// Answers a probe. No completion is left that may have taken the connection's error.
    fn look_at(&mut self, conn: ConnId) {
        let unsent = self.unsent(conn);
        if let Some(socket) = self.sockets.open_one(conn) {
            let facts = kernel_view::with_extras(socket.fd(), unsent);
            self.facts.push_back(Fact::Probed { conn, facts });
        }
    }

    /// Gives up on `conn`: cancels what is under way and closes the descriptor behind it.
    fn give_up(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        socket.closing = true;
        if socket.receiving && !socket.receive_cancelled {
            self.ring.cancel(op(Kind::Receive, conn));
        }
        if socket.watching {
            self.ring.cancel(op(Kind::Watch, conn));
        }
        if socket.acks.as_ref().is_some_and(|acks| acks.errors.is_some()) {
            self.ring.cancel(op(Kind::Errors, conn));
        }
        if let Some(outgoing) = self.sends.get(socket.send as usize) {
            if outgoing.under_way > 1 {
                // The first of a chain; the others end with it, and those behind it never begin.
                self.ring.cancel(op(Kind::Piece, conn));
            }
            self.ring.cancel(op(Kind::Send, conn));
        }
        if let Some(fd) = socket.give_up_fd() {
            self.ring.close(fd);
        }
        self.finish_close(conn);
    }

    fn finish_close(&mut self, conn: ConnId) {
        let done = self.sockets.get(conn).is_some_and(|socket| socket.closing && socket.under_way == 0);
        if done && let Some(fd) = self.sockets.free(conn) {
            self.ring.close(fd);
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.ring.end();
        // Connections that were accepted and never told of are closed, not forgotten.
        while let Some(completion) = self.ring.next() {
            if completion.op.kind == Kind::Accept && completion.result >= 0 {
                // SAFETY: the kernel has opened it for us, and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
        }
    }
}

impl Engine for Uring {
    type Sleeper = NeverBlocks;

    fn begin(&mut self) -> io::Result<()> {
        self.arm_waker();
        self.arm_accepts();
        self.ring.enable()
    }

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        if socket.send != NO_SEND {
            debug_assert!(false, "a response is on its way, and the kernel reads its bytes");
            return self.facts.push_back(Fact::Reset(conn));
        }
        socket.in_question = confirm != SendConfirm::None;
        socket.stale_looks = socket.looking;
        let paused = !socket.reading;
        self.begin_send(conn, payload, confirm);
        if paused {
            self.watch_anew(conn);
        }
    }

    fn pause(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.open_one(conn) else { return };
        socket.reading = false;
        if socket.receiving && !socket.receive_cancelled {
            socket.receive_cancelled = true;
            self.ring.cancel(op(Kind::Receive, conn));
        } else {
            self.arm_watch(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.open_one(conn) {
            socket.reading = true;
            // If the cancelled receive is not over yet, its end begins the next.
            self.arm_receive(conn);
            self.watch_anew(conn);
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.open_one(conn) {
            socket.shut_down();
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.give_up(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.open_one(conn) {
            // Without linger, what is queued would still be delivered to a peer that comes back.
            let _ = socket2::SockRef::from(&socket.fd()).set_linger(Some(Duration::ZERO));
            self.give_up(conn);
            self.resets_due = true;
        }
    }

    fn probe(&mut self, conn: ConnId) {
        self.probes.push_back(conn);
    }

    fn remote(&mut self, conn: ConnId) -> Option<Remote> {
        self.sockets.open_one(conn).and_then(|socket| tcp::remote(socket.fd()))
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        // What a receive has taken is told before anybody is accepted.
        self.sockets.open_one(conn).is_some_and(|socket| tcp::has_unread(socket.fd()))
    }

    fn stop_accepting(&mut self) {
        self.newcomers.are_last();
        for index in 0..self.acceptors.len() {
            let acceptor = &mut self.acceptors[index];
            acceptor.stopping = true;
            if acceptor.armed {
                self.ring.cancel(Op::of_engine(Kind::Accept, index));
            } else {
                self.drain_stopped(index);
            }
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        let is_busy = self.is_busy();
        // What is answered at once, sends above all, may well wait.
        self.ring.submit()?;
        Ok(is_busy)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        for _ in 0..self.buffers.count() {
            let Some(conn) = self.starved.pop_front() else { break };
            self.go_on(conn);
        }
        self.arm_or_pause_accepts();
        let until_look = self.look();
        let timeout = timeout.into_iter().chain(until_look).min();
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
                    self.look_at(conn);
                } else {
                    self.take_in_newcomer()?;
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
