//! What the ring may do once it is enabled.

use io_uring::register::Restriction;
use io_uring::{opcode, squeue};

/// The operations that the engine submits, and nothing else. A filter of system calls (`--seccomp`) does not see what
/// goes through the ring.
pub fn restrictions() -> [Restriction; 11] {
    // enum io_uring_register_op of linux/io_uring.h
    const SYNC_CANCEL: u8 = 24;
    let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS | squeue::Flags::BUFFER_SELECT;
    [
        Restriction::sqe_op(opcode::AcceptMulti::CODE),
        Restriction::sqe_op(opcode::RecvMulti::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_op(opcode::SendMsg::CODE),
        Restriction::sqe_op(opcode::RecvMsg::CODE),
        Restriction::sqe_op(opcode::UringCmd16::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_op(opcode::Close::CODE),
        Restriction::sqe_flags_allowed(flags.bits()),
        Restriction::register_op(SYNC_CANCEL),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Ring;

    #[test]
    fn other_operations_are_refused() {
        let mut ring = Ring::new(8, 16).unwrap();
        ring.enable().unwrap();
        let path = c"/etc/passwd";
        let open = io_uring::opcode::OpenAt::new(io_uring::types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        // SAFETY: the path is static.
        unsafe { ring.ring.submission().push(&open.user_data(7)) }.unwrap();
        ring.ring.submit_and_wait(1).unwrap();
        let end = ring.ring.completion().next().unwrap();
        assert_eq!((end.user_data(), end.result()), (7, -libc::EACCES));
    }
}
