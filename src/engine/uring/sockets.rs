//! The table of connections, with the operations of each that are under way.

use super::messages::ErrorMessage;
use super::op::SLOTS_MAX;
use super::stable::Stable;
use crate::broker::io::ConnId;
use crate::engine::ack_expectation::LastAck;
use crate::engine::ack_timestamps::AckTimestamps;
use crate::sys::calls::{self, taken};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// No send is under way.
pub const NO_SEND: u32 = u32::MAX;

/// The engine frees the slot when the connection is closing and none of its operations is under way. So no
/// completion can reach a later connection in the slot. The engine closes the descriptor earlier, as soon as every
/// operation that names it has begun. Only the operations of a response, including the check after it, begin one
/// after the other. So no operation can reach a later connection with the same descriptor, and a reset does not
/// wait.
pub struct Socket {
    /// The slot is not free.
    in_use: bool,
    /// `None` once the engine has released it.
    fd: Option<OwnedFd>,
    generation: u32,
    /// The key of the response that is under way, in the engine's table.
    pub send: u32,
    /// The number of operations whose last completion is still to come.
    pub under_way: u8,
    /// The broker has not paused reading.
    pub reading: bool,
    /// A receive is under way.
    pub receiving: bool,
    /// The engine is cancelling that receive.
    pub receive_cancelled: bool,
    /// A watch is under way.
    pub watching: bool,
    /// The number of checks after a send that are under way.
    pub checks_under_way: u8,
    /// How many of them, the first ones, belong to earlier responses.
    pub stale_checks: u8,
    /// The engine has reported the peer's FIN.
    pub fin: bool,
    /// A send awaits its proof of delivery: the engine reports the kernel's view with the FIN.
    pub awaits_proof: bool,
    /// The connection has carried a response, or the beginning of one.
    answered: bool,
    /// The broker has closed or reset it.
    pub closing: bool,
    /// Present once the engine has to report acknowledgements from this peer (confirm `ack`).
    pub acks: Option<Box<Acks>>,
}

/// The acknowledgements of one connection.
#[derive(Default)]
pub struct Acks {
    pub timestamps: AckTimestamps,
    /// The message into which the kernel receives from the error queue.
    pub errors: Option<Stable<ErrorMessage>>,
    /// The announcement came before the send's own completion.
    pub early: bool,
    /// The engine polls for an acknowledgement.
    pub checked: bool,
    pub last: LastAck,
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
            checks_under_way: 0,
            stale_checks: 0,
            fin: false,
            awaits_proof: false,
            answered: false,
            closing: false,
            acks: None,
        }
    }

    /// The descriptor of an open connection.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("an open connection has a descriptor").as_fd()
    }

    /// Releases the descriptor, unless an operation that has not begun yet names it.
    pub fn release_fd(&mut self) -> Option<OwnedFd> {
        if self.send == NO_SEND && self.checks_under_way == 0 { self.fd.take() } else { None }
    }

    /// Whether the last acknowledgement had arrived when the send returned.
    pub fn last_ack(&self) -> LastAck {
        self.acks.as_ref().and_then(|acks| acks.last)
    }

    /// Prepares a response of `len` bytes whose acknowledgement the engine must report; see
    /// [`AckTimestamps::begin`]. Returns how many single bytes to send ahead.
    pub fn begin_acked(&mut self, len: usize, checked: bool) -> io::Result<u8> {
        let fd = self.fd.as_ref().expect("an open connection has a descriptor").as_fd();
        let acks = self.acks.get_or_insert_default();
        acks.early = false;
        acks.timestamps.begin(fd, len, checked, !self.answered)
    }

    /// Whether the kernel has taken all of a response whose acknowledgement the engine awaits.
    pub fn awaits_ack(&self) -> bool {
        let is_awaited = |acks: &Acks| acks.checked || acks.timestamps.awaited.is_some();
        self.send == NO_SEND
            && (self.checks_under_way > self.stale_checks || self.acks.as_deref().is_some_and(is_awaited))
    }

    /// Counts `count` bytes that the kernel has taken.
    pub fn count_sent(&mut self, count: usize) {
        self.answered = true;
        if let Some(acks) = &mut self.acks {
            acks.timestamps.count(count);
        }
    }

    /// Ends the wait for an acknowledgement.
    pub fn acknowledged(&mut self) {
        self.awaits_proof = false;
        if let Some(acks) = &mut self.acks {
            acks.checked = false;
            acks.timestamps.awaited = None;
        }
    }

    /// Sends as much of a connection's last response as there is room for, and a FIN after the last byte. Returns how
    /// many bytes the kernel took. This bypasses the ring because the ring cannot send the FIN. The kernel would hold
    /// back the bytes that go with the FIN until the next turn.
    pub fn send_last(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = taken(calls::transmit_held(self.fd(), bytes))?;
        if sent == bytes.len() {
            self.half_close();
        }
        Ok(sent)
    }

    /// Sends a FIN. This bypasses the ring, which would hand the shutdown to a kernel thread.
    pub fn half_close(&self) {
        // It fails only on a connection whose end the engine reports anyway.
        let _ = socket2::SockRef::from(&self.fd()).shutdown(Shutdown::Write);
    }

    /// Counts an operation that has ended.
    pub fn ended(&mut self) {
        self.under_way -= 1;
    }
}

/// All connections of a worker.
#[derive(Default)]
pub struct Sockets {
    slots: Vec<Socket>,
    free: Vec<u32>,
}

impl Sockets {
    /// Gives a new connection a slot; returns the descriptor if there is none.
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

    /// The connection `conn`, unless the broker has closed or reset it.
    pub fn get_open(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.get(conn).filter(|socket| !socket.closing)
    }

    /// The connection `conn`, closing or not.
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.slots
            .get_mut(conn.slot as usize)
            .filter(|socket| socket.generation == conn.generation && socket.in_use)
    }

    /// Frees the slot of a connection without operations under way. Returns its descriptor if it still has one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_small() {
        assert!(size_of::<Socket>() <= 40, "{}", size_of::<Socket>());
    }
}
