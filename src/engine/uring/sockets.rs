//! The table of connections: what the kernel is doing for each of them.

use super::op::{Kind, Op, SLOTS_MAX};
use super::send::Errors;
use super::stable::Stable;
use crate::broker::io::ConnId;
use crate::engine::ack_timestamps::AckTimestamps;
use crate::sys::calls::{self, taken};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// No send is under way.
pub const NO_SEND: u32 = u32::MAX;

/// One connection. Its slot is given up when it is closing and nothing that names it is under way any
/// more: so no completion can meet a later user of the slot. Its descriptor is given up as soon as
/// nothing that is still to begin can name it, which only a response's operations, the look behind them
/// among them, can: they begin one after the other. So no operation meets a later user of the descriptor,
/// and a reset does not wait.
pub struct Socket {
    /// The slot is not free.
    in_use: bool,
    /// `None`: given up.
    fd: Option<OwnedFd>,
    generation: u32,
    /// The response on its way out, in the engine's table of them.
    pub send: u32,
    /// Operations whose last completion is still to come.
    pub under_way: u8,
    /// The core wants to read.
    pub reading: bool,
    /// A receive is under way.
    pub receiving: bool,
    /// ... and is being cancelled.
    pub receive_cancelled: bool,
    /// A watch is under way.
    pub watching: bool,
    /// AckChecks behind a send that are under way...
    pub looking: u8,
    /// ... and how many of them, the first ones, were for earlier responses.
    pub stale_looks: u8,
    /// The peer's FIN has been reported.
    pub fin: bool,
    /// A send's delivery is in question: report the kernel's view with the FIN.
    pub in_question: bool,
    /// It has carried a response, or the beginning of one.
    answered: bool,
    /// The core has given it up.
    pub closing: bool,
    /// Acknowledgements are asked for (confirm `ack`).
    pub acks: Option<Box<Acks>>,
}

/// A connection whose acknowledgements are reported.
#[derive(Default)]
pub struct Acks {
    /// What is awaited.
    pub stamps: AckTimestamps,
    /// The message that is being received from the error queue.
    pub errors: Option<Stable<Errors>>,
    /// The acknowledgement was found before the send's own completion.
    pub early: bool,
    /// An acknowledgement is looked for.
    pub checked: bool,
    /// That of the last response was there when the send was over.
    pub at_once: Option<bool>,
}

impl Socket {
    /// Its descriptor. It is open.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("an open connection has a descriptor").as_fd()
    }

    /// Gives up the descriptor, unless what is still to begin names it.
    pub fn give_up_fd(&mut self) -> Option<OwnedFd> {
        if self.send == NO_SEND && self.looking == 0 { self.fd.take() } else { None }
    }

    /// Whether the acknowledgement of the next response is taken to be there at once: as that of the last one was, or
    /// like `others` if there was none.
    pub fn expects_ack_at_once(&self, others: bool) -> bool {
        self.acks.as_ref().and_then(|acks| acks.at_once).unwrap_or(others)
    }

    /// A response of `len` bytes is next, whose acknowledgement is to be reported: looked for, or announced; see
    /// [`AckTimestamps::begin`]. Answers how many single bytes go ahead.
    pub fn begin_acked(&mut self, len: usize, checked: bool) -> io::Result<u8> {
        let fd = self.fd.as_ref().expect("an open connection has a descriptor").as_fd();
        let acks = self.acks.get_or_insert_default();
        acks.early = false;
        acks.stamps.begin(fd, len, checked, !self.answered)
    }

    /// The kernel has all of a response whose acknowledgement is awaited.
    pub fn awaits_ack(&self) -> bool {
        let is_awaited = |acks: &Acks| acks.checked || acks.stamps.awaited.is_some();
        self.send == NO_SEND
            && (self.looking > self.stale_looks || self.acks.as_deref().is_some_and(is_awaited))
    }

    /// The kernel took `count` bytes.
    pub fn count_sent(&mut self, count: usize) {
        self.answered = true;
        if let Some(acks) = &mut self.acks {
            acks.stamps.count(count);
        }
    }

    /// The acknowledgement that was awaited is there.
    pub fn acknowledged(&mut self) {
        self.in_question = false;
        if let Some(acks) = &mut self.acks {
            acks.checked = false;
            acks.stamps.awaited = None;
        }
    }

    /// Sends what there is room for of a connection's last response, and our FIN behind all of it; answers
    /// how many bytes that were. Not through the ring: the FIN cannot, and without it the bytes would wait
    /// for a turn of their own.
    pub fn send_last(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = taken(calls::transmit_held(self.fd(), bytes))?;
        if sent == bytes.len() {
            self.shut_down();
        }
        Ok(sent)
    }

    /// Sends our FIN. Not through the ring, which would hand it to a thread.
    pub fn shut_down(&self) {
        // A connection that is gone already will say so itself.
        let _ = socket2::SockRef::from(&self.fd()).shutdown(Shutdown::Write);
    }

    /// An operation has come to its end.
    pub fn ended(&mut self) {
        self.under_way -= 1;
    }
}

/// All connections.
#[derive(Default)]
pub struct Sockets {
    slots: Vec<Socket>,
    free: Vec<u32>,
}

impl Sockets {
    /// A new connection's id; gives the descriptor back if there is no slot.
    pub fn open(&mut self, fd: OwnedFd) -> Result<ConnId, OwnedFd> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == SLOTS_MAX => return Err(fd),
            None => {
                self.slots.push(Socket::new());
                self.slots.len() as u32 - 1
            }
        };
        let socket = &mut self.slots[slot as usize];
        let generation = socket.generation.wrapping_add(1);
        *socket = Socket { in_use: true, fd: Some(fd), generation, reading: true, ..Socket::new() };
        Ok(ConnId { slot, generation })
    }

    /// The connection `conn` as the core knows it: open, and not given up.
    pub fn open_one(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.get(conn).filter(|socket| !socket.closing)
    }

    /// The connection `conn`, given up or not.
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.slots
            .get_mut(conn.slot as usize)
            .filter(|socket| socket.generation == conn.generation && socket.in_use)
    }

    /// Frees the slot of a connection that has nothing under way. Answers its descriptor if it has one still.
    pub fn free(&mut self, conn: ConnId) -> Option<OwnedFd> {
        let socket = self.get(conn)?;
        debug_assert_eq!((socket.under_way, socket.send), (0, NO_SEND));
        socket.in_use = false;
        socket.acks = None;
        let fd = socket.fd.take();
        self.free.push(conn.slot);
        fd
    }
}

impl Socket {
    fn new() -> Socket {
        Socket {
            in_use: false,
            fd: None,
            generation: 0,
            send: NO_SEND,
            under_way: 0,
            reading: false,
            receiving: false,
            receive_cancelled: false,
            watching: false,
            looking: 0,
            stale_looks: 0,
            fin: false,
            in_question: false,
            answered: false,
            closing: false,
            acks: None,
        }
    }
}

/// An operation of `conn`.
pub fn op(kind: Kind, conn: ConnId) -> Op {
    Op { kind, conn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_little() {
        assert!(size_of::<Socket>() <= 40, "{}", size_of::<Socket>());
    }
}
