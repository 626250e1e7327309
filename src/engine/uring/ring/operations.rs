//! The operations that the engine submits.

use super::super::op::{Kind, Op};
use super::{BUFFER_GROUP, Ring};
use crate::broker::io::ConnId;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

/// The number of bytes that are unacknowledged or unsent, as the ioctl SIOCOUTQ reports it: enum
/// io_uring_socket_op of linux/io_uring.h, since Linux 6.7.
const SOCKET_URING_OP_SIOCOUTQ: u32 = 1;

impl Ring {
    /// Accepts connections until cancelled.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, op: Op) {
        let accept = opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(accept.user_data(op.user_data()));
    }

    /// Receives into the registered buffers until cancelled.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, op: Op) {
        let receive = opcode::RecvMulti::new(fd(socket), BUFFER_GROUP).build();
        self.push(receive.user_data(op.user_data()));
    }

    /// Reports poll(2) events; with `multi` each time that they come again.
    pub fn poll(&mut self, polled: BorrowedFd<'_>, events: i16, multi: bool, op: Op) {
        let poll = opcode::PollAdd::new(fd(polled), events as u16 as u32).multi(multi).build();
        self.push(poll.user_data(op.user_data()));
    }

    /// Cancels an operation, which ends with ECANCELED unless it ends earlier.
    pub fn cancel(&mut self, op: Op) {
        let cancel = opcode::AsyncCancel::new(op.user_data()).build();
        self.push_silent(cancel);
    }

    /// Closes the socket after all operations that were queued before.
    pub fn close(&mut self, socket: OwnedFd) {
        let close = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push_silent(close);
    }

    /// Sends `len` bytes from `bytes`, or as many of them as fit.
    ///
    /// # Safety
    /// The bytes stay valid until the completion.
    pub unsafe fn send(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, len: usize, op: Op) {
        self.push(send(socket, bytes, len, libc::MSG_NOSIGNAL, op));
    }

    /// The same, but the kernel holds back what does not fill a segment for the FIN that follows.
    ///
    /// # Safety
    /// The bytes stay valid until the completion.
    pub unsafe fn send_held(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, len: usize, op: Op) {
        self.push(send(socket, bytes, len, libc::MSG_NOSIGNAL | libc::MSG_MORE, op));
    }

    /// Sends `lead_bytes` single bytes from `first`, then `message`, or as much of it as fits. The kernel keeps this
    /// order even where one of them has to wait.
    ///
    /// # Safety
    /// The bytes, the message and what it refers to stay valid until all completions.
    pub unsafe fn send_message(
        &mut self,
        socket: BorrowedFd<'_>,
        first: *const u8,
        lead_bytes: u8,
        message: *const libc::msghdr,
        conn: ConnId,
    ) {
        let rest = opcode::SendMsg::new(fd(socket), message)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .user_data(Op { kind: Kind::Send, conn }.user_data());
        let lead_byte = |number| lead_byte(socket, first, number, conn);
        match lead_bytes {
            0 => self.push(rest),
            1 => self.push_chain(&[lead_byte(0), rest]),
            _ => self.push_chain(&[lead_byte(0), lead_byte(1), rest]),
        }
    }

    /// Sends `len` bytes from `first`, or as many of them as fit, `lead_bytes` of them as single bytes ahead of
    /// the rest. Then asks how many bytes the peer has not acknowledged.
    ///
    /// # Safety
    /// The bytes stay valid until the completions of the sends.
    pub unsafe fn send_and_check(
        &mut self,
        socket: BorrowedFd<'_>,
        first: *const u8,
        len: usize,
        lead_bytes: u8,
        conn: ConnId,
    ) {
        let at = usize::from(lead_bytes);
        let op = Op { kind: Kind::Send, conn };
        let rest = send(socket, first.wrapping_add(at), len - at, libc::MSG_NOSIGNAL, op)
            .flags(squeue::Flags::IO_LINK);
        let lead_byte = |number| lead_byte(socket, first, number, conn);
        let check = opcode::UringCmd16::new(fd(socket), SOCKET_URING_OP_SIOCOUTQ)
            .build()
            .user_data(Op { kind: Kind::AckCheck, conn }.user_data());
        match lead_bytes {
            0 => self.push_chain(&[rest, check]),
            1 => self.push_chain(&[lead_byte(0), rest, check]),
            _ => self.push_chain(&[lead_byte(0), lead_byte(1), rest, check]),
        }
    }

    /// Takes a message from the socket's error queue, when there is one.
    ///
    /// # Safety
    /// The message and what it refers to stay valid, and untouched, until the completion.
    pub unsafe fn receive_error(&mut self, socket: BorrowedFd<'_>, message: *mut libc::msghdr, op: Op) {
        let receive = opcode::RecvMsg::new(fd(socket), message).flags(libc::MSG_ERRQUEUE as u32).build();
        self.push(receive.user_data(op.user_data()));
    }

    fn push_silent(&mut self, entry: squeue::Entry) {
        let data = Op::of_engine(Kind::Silent, 0).user_data();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(data));
    }
}

fn send(socket: BorrowedFd<'_>, bytes: *const u8, len: usize, flags: i32, op: Op) -> squeue::Entry {
    // A length beyond the field makes a short send, which the engine continues like any other.
    let len = len.min(i32::MAX as usize) as u32;
    opcode::Send::new(fd(socket), bytes, len).flags(flags).build().user_data(op.user_data())
}

/// Sends the single byte with this number from `first`, linked to the next operation.
fn lead_byte(socket: BorrowedFd<'_>, first: *const u8, number: u8, conn: ConnId) -> squeue::Entry {
    let op = Op { kind: Kind::LeadByte, conn };
    send(socket, first.wrapping_add(number.into()), 1, libc::MSG_NOSIGNAL, op).flags(squeue::Flags::IO_LINK)
}

fn fd(of: BorrowedFd<'_>) -> Fd {
    Fd(of.as_raw_fd())
}
