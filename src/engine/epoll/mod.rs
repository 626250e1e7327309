//! The epoll engine, on mio: edge-triggered, with one scratch buffer per worker to read into.
//!
//! In the steady state a request costs one `recv` and a response one `send`. A read that does not fill the buffer has
//! emptied the socket, and the next byte is a new edge. The engine asks for writability only after a short write.

mod accept;
mod acks;
mod blocker;
mod outgoing;
mod ready;
mod sockets;

use super::ack_checks::{AckChecks, ChecksAcks};
use super::ack_expectation::AckExpectation;
use super::fact::Fact;
use super::interface::{Blocker, Engine, Wake};
use super::kernel_view;
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, Payload, SendConfirm};
use crate::sys::listen::Listener;
use crate::sys::tcp::{self, Remote};
use accept::{Acceptor, acceptor_token};
use blocker::{EpollBlocker, WAKE_TOKEN, Waker};
use mio::{Interest, Poll, Registry};
use outgoing::{Outgoing, Progress};
use ready::{Ready, Received, read_next_turn};
use slab::Slab;
use sockets::{Socket, conn_id, socket, token};
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes per read. A connection gets one read per turn, and a second one if the first emptied the socket and more
/// bytes have arrived since.
const SCRATCH_BYTES: usize = 64 * 1024;

pub struct Epoll {
    registry: Registry,
    /// `None` after the worker took it out.
    blocker: Option<EpollBlocker>,
    waker: Arc<Waker>,
    acceptors: Vec<Acceptor>,
    sockets: Slab<Socket>,
    /// How often each slot has been used.
    generations: Vec<u32>,
    scratch: Box<[u8]>,
    /// This turn's readiness and how far the engine has handled it.
    batch: Vec<Ready>,
    cursor: usize,
    /// Readiness that the engine leaves for the next turn, so that one busy peer cannot starve the others.
    leftover: Vec<Ready>,
    facts: VecDeque<Fact>,
    ack_checks: AckChecks,
    ack_expectation: AckExpectation,
    /// In a turn with this many events or more the engine polls for acknowledgements.
    ack_check_from_events: usize,
}

impl Epoll {
    /// An engine that accepts from `listeners`, which are listening and non-blocking. In turns with
    /// `ack_check_from_events` events or more the engine polls for acknowledgements that do not come within the
    /// send. In other turns the kernel announces them.
    pub fn new(listeners: Vec<(Side, Listener)>, ack_check_from_events: usize) -> io::Result<Epoll> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(Waker::new(&registry)?);
        let mut acceptors = Vec::new();
        for (number, (side, listener)) in listeners.into_iter().enumerate() {
            let mut acceptor = Acceptor::new(side, listener);
            acceptor.register(&registry, acceptor_token(number))?;
            acceptors.push(acceptor);
        }
        Ok(Epoll {
            registry,
            blocker: Some(EpollBlocker::new(poll)),
            waker,
            acceptors,
            sockets: Slab::new(),
            generations: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            batch: Vec::new(),
            cursor: 0,
            leftover: Vec::new(),
            facts: VecDeque::new(),
            ack_checks: AckChecks::default(),
            ack_expectation: AckExpectation::new(false),
            ack_check_from_events,
        })
    }
}

impl Engine for Epoll {
    type Blocker = EpollBlocker;

    fn send(&mut self, conn: ConnId, payload: Payload, confirm: SendConfirm) {
        let checked = confirm == SendConfirm::Acked && self.checks_ack_of(conn);
        let Some(socket) = socket(&mut self.sockets, conn) else { return };
        socket.awaits_proof = confirm != SendConfirm::None;
        let is_first = !std::mem::replace(&mut socket.answered, true);
        let mut outgoing = Outgoing::new(payload, confirm, checked, is_first);
        match outgoing.write(&socket.stream, &mut socket.ack_timestamps) {
            Ok(Progress::Done) => {
                self.facts.push_back(Fact::Sent(conn));
                if confirm == SendConfirm::Acked {
                    self.check_after_send(conn, checked);
                }
            }
            Ok(Progress::Blocked) => {
                socket.outgoing = Some(Box::new(outgoing));
                let both = Interest::READABLE | Interest::WRITABLE;
                if self.registry.reregister(&mut socket.stream, token(conn), both).is_err() {
                    self.facts.push_back(Fact::Reset(conn));
                } else {
                    self.handle_after_send(conn, AckExpectation::after_short_send(checked));
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

    fn half_close(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            // It fails only on a connection whose end the engine reports anyway.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if socket(&mut self.sockets, conn).is_some() {
            // Closing the only descriptor removes it from epoll.
            self.sockets.remove(conn.slot as usize);
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.sockets, conn) {
            // Without it the kernel would still deliver what it has queued to a peer that recovers.
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
        for acceptor in std::mem::take(&mut self.acceptors) {
            self.accept_all(acceptor);
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(!self.facts.is_empty() || !self.leftover.is_empty())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut blocker = self.blocker.take().expect("wait is not called after take_blocker");
        let result = blocker.block(self.block_timeout(timeout));
        self.after_block(&mut blocker);
        self.blocker = Some(blocker);
        result
    }

    fn take_blocker(&mut self) -> Option<EpollBlocker> {
        self.blocker.take()
    }

    fn block_timeout(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let until_check = self.check_due_acks();
        if !self.facts.is_empty() || !self.leftover.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry = self.acceptors.iter().filter_map(|acceptor| acceptor.retry_at()).min();
        let until_retry = retry.map(|at| at.saturating_duration_since(Instant::now()));
        timeout.into_iter().chain(until_check).chain(until_retry).min()
    }

    fn after_block(&mut self, blocker: &mut EpollBlocker) {
        self.batch.clear();
        self.cursor = 0;
        std::mem::swap(&mut self.batch, &mut self.leftover);
        for ready in &self.batch {
            if let Some(socket) = socket(&mut self.sockets, conn_id(ready.token)) {
                socket.queued = false;
            }
        }
        self.batch.extend(blocker.events().filter(|event| event.token() != WAKE_TOKEN).map(Ready::of));
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.take_due_retry() {
                self.batch.push(Ready::reading(acceptor_token(number)));
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
