//! The ring: operations in, completions out, one `io_uring_enter` per turn.

use super::op::{Kind, Op};
use crate::broker::io::ConnId;
use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

/// The group of receive buffers; there is one.
pub const BUFFER_GROUP: u16 = 0;
/// Operations that are submitted in one piece.
pub const CHAIN_MAX: u32 = 4;
/// How long the end of an engine waits for its operations to be cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// One thread's ring.
pub struct Ring {
    ring: IoUring,
    /// Operations for which the submission queue had no room.
    backlog: VecDeque<Box<[squeue::Entry]>>,
    /// Turns that found the completion queue overflown: the kernel kept what did not fit.
    pub overflows: u64,
}

/// The end of an operation, or one of several results of it.
pub struct Completion {
    /// Which one.
    pub op: Op,
    /// Zero or more, or a negated errno.
    pub result: i32,
    /// The operation goes on.
    pub more: bool,
    /// The buffer that holds what was received.
    pub buffer: Option<u16>,
}

/// Why io_uring can't be had: which step, what the kernel said, what to do.
#[derive(Debug)]
struct Unavailable {
    step: &'static str,
    source: io::Error,
}

impl Ring {
    /// A ring of at least [`CHAIN_MAX`] submissions, on which nothing can be submitted before [`Ring::enable`]; that call, not this one,
    /// chooses the thread which owns it.
    pub fn new(submissions: u32, completions: u32) -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork()
            .build(submissions.max(CHAIN_MAX))
            .map_err(|source| unavailable("io_uring_setup", source))?;
        Ok(Ring { ring, backlog: VecDeque::new(), overflows: 0 })
    }

    /// Makes the calling thread the one that submits, and submits what is there.
    pub fn enable(&mut self) -> io::Result<()> {
        let step = |source| unavailable("io_uring_register", source);
        self.ring.submitter().register_restrictions(&mut restrictions()).map_err(step)?;
        self.ring.submitter().register_enable_rings().map_err(step)?;
        self.ring.submit().map_err(|source| unavailable("io_uring_enter", source))?;
        Ok(())
    }

    /// Registers `count` entries at `address` as the ring of receive buffers.
    ///
    /// # Safety
    /// The entries, and the buffers that they will name, stay valid as long as the ring.
    pub unsafe fn register_buffers(&self, address: u64, count: u16) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }
            .map_err(|source| unavailable("io_uring_register", source))
    }

    /// There are completions for which the queue has no room.
    pub fn has_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Submits what is queued; no call if that is nothing.
    pub fn submit(&mut self) -> io::Result<()> {
        match self.backlog.is_empty() && self.ring.submission().is_empty() {
            true => Ok(()),
            false => self.enter(Some(Duration::ZERO)),
        }
    }

    /// Submits what is queued and lets the kernel do what it has put off: a socket that is being closed is
    /// held by its receive until the cancelling of that has run, in steps.
    pub fn carry_out(&mut self) {
        for _ in 0..CARRY_OUT_MAX {
            // What fails here fails again where it is answered for.
            let _ = self.enter(Some(Duration::ZERO));
            if !self.ring.submission().taskrun() {
                break;
            }
        }
    }

    /// Submits, waits for a completion or the timeout (`None`: no timeout), and lets the kernel
    /// post what is ready.
    pub fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let more = self.flush_backlog();
        if self.has_overflown() {
            self.overflows += 1;
        }
        let entered = match timeout {
            _ if more => self.ring.submit(),
            Some(Duration::ZERO) => self.ring.submit(),
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&timeout);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // EBUSY, EAGAIN: no room or memory just now; what was not submitted still stands.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The kernel has more to tell, which the next enter does: one enter tells a few dozen completions and no more
    /// (IO_LOCAL_TW_DEFAULT_MAX, io_uring/io_uring.c).
    pub fn has_more(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// The next completion that the kernel has posted.
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if let Some(op) = Op::from_user_data(entry.user_data()) {
                let flags = entry.flags();
                return Some(Completion {
                    op,
                    result: entry.result(),
                    more: cqueue::more(flags),
                    buffer: cqueue::buffer_select(flags),
                });
            }
        }
    }

    /// Carries out what is queued and cancels the rest: from here on no operation touches what it
    /// refers to. Call it before any of that is dropped.
    pub fn end(&mut self) {
        // None of these can fail in a way that anybody could mend now: closing the ring, which comes
        // next, cancels as well.
        self.flush_backlog();
        let _ = self.ring.submit();
        let timeout = Timespec::from(CANCEL_TIMEOUT);
        let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
        let _ = self.ring.submit();
    }

    /// Completions that are posted and not taken yet.
    pub fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

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

    /// Reports poll(2) events; `multi`: each time that they come anew.
    pub fn poll(&mut self, polled: BorrowedFd<'_>, events: i16, multi: bool, op: Op) {
        let poll = opcode::PollAdd::new(fd(polled), events as u16 as u32).multi(multi).build();
        self.push(poll.user_data(op.user_data()));
    }

    /// Cancels an operation; it ends with ECANCELED unless it ends by itself first.
    pub fn cancel(&mut self, op: Op) {
        let cancel = opcode::AsyncCancel::new(op.user_data()).build();
        self.push_silent(cancel);
    }

    /// Closes, behind everything that was asked for before.
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

    /// The same; what does not fill a segment is held back for the FIN that follows.
    ///
    /// # Safety
    /// The bytes stay valid until the completion.
    pub unsafe fn send_held(&mut self, socket: BorrowedFd<'_>, bytes: *const u8, len: usize, op: Op) {
        self.push(send(socket, bytes, len, libc::MSG_NOSIGNAL | libc::MSG_MORE, op));
    }

    /// Sends `message`, or as much of it as fits, behind `pieces` single bytes from `first`; in this
    /// order, whatever each of them has to wait for.
    ///
    /// # Safety
    /// The bytes, the message and what it refers to stay valid until all completions.
    pub unsafe fn send_message(
        &mut self,
        socket: BorrowedFd<'_>,
        first: *const u8,
        pieces: u8,
        message: *const libc::msghdr,
        conn: ConnId,
    ) {
        let rest = opcode::SendMsg::new(fd(socket), message)
            .flags(libc::MSG_NOSIGNAL as u32)
            .build()
            .user_data(Op { kind: Kind::Send, conn }.user_data());
        let piece = |index| piece(socket, first, index, conn);
        match pieces {
            0 => self.push(rest),
            1 => self.push_chain(&[piece(0), rest]),
            _ => self.push_chain(&[piece(0), piece(1), rest]),
        }
    }

    /// Sends `len` bytes from `first`, or as many of them as fit, `pieces` of them as single bytes ahead of the
    /// rest, and asks behind them how many bytes the peer has not acknowledged.
    ///
    /// # Safety
    /// The bytes stay valid until the completions of the sends.
    pub unsafe fn send_and_look(
        &mut self,
        socket: BorrowedFd<'_>,
        first: *const u8,
        len: usize,
        pieces: u8,
        conn: ConnId,
    ) {
        let at = usize::from(pieces);
        let op = Op { kind: Kind::Send, conn };
        let rest = send(socket, first.wrapping_add(at), len - at, libc::MSG_NOSIGNAL, op)
            .flags(squeue::Flags::IO_LINK);
        let piece = |index| piece(socket, first, index, conn);
        let look = opcode::UringCmd16::new(fd(socket), SOCKET_URING_OP_SIOCOUTQ)
            .build()
            .user_data(Op { kind: Kind::AckCheck, conn }.user_data());
        match pieces {
            0 => self.push_chain(&[rest, look]),
            1 => self.push_chain(&[piece(0), rest, look]),
            _ => self.push_chain(&[piece(0), piece(1), rest, look]),
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

    fn push(&mut self, entry: squeue::Entry) {
        self.push_chain(&[entry]);
    }

    /// Queues entries side by side: a chain of links must be submitted in one piece. What is asked
    /// for takes effect in the order in which it is asked for.
    fn push_chain(&mut self, entries: &[squeue::Entry]) {
        if !self.backlog.is_empty() || !self.fit(entries) {
            self.backlog.push_back(entries.into());
        }
    }

    /// Queues the entries, if need be after submitting what is queued.
    fn fit(&mut self, entries: &[squeue::Entry]) -> bool {
        self.queue(entries) || (self.ring.submit().is_ok() && self.queue(entries))
    }

    /// Queues all of the entries, or none for want of room.
    fn queue(&mut self, entries: &[squeue::Entry]) -> bool {
        // SAFETY: every entry comes from a method above; what it refers to is the registered buffers,
        // or is kept valid by the caller of an unsafe method.
        unsafe { self.ring.submission().push_multiple(entries) }.is_ok()
    }

    /// Moves the backlog into the queue. True if some of it is left.
    fn flush_backlog(&mut self) -> bool {
        while let Some(chain) = self.backlog.pop_front() {
            if !self.fit(&chain) {
                self.backlog.push_front(chain);
                return true;
            }
        }
        false
    }
}

/// The bytes that are unacknowledged or unsent, as the ioctl SIOCOUTQ has them: enum io_uring_socket_op of
/// linux/io_uring.h, from Linux 6.7 on.
const SOCKET_URING_OP_SIOCOUTQ: u32 = 1;

/// Cancelling a receive takes three steps.
const CARRY_OUT_MAX: u32 = 8;

/// What the ring does from its enabling on, and nothing else: a filter of system calls (`--seccomp`) does
/// not see what goes through it.
fn restrictions() -> [Restriction; 11] {
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

fn send(socket: BorrowedFd<'_>, bytes: *const u8, len: usize, flags: i32, op: Op) -> squeue::Entry {
    // What exceeds the field is a short send, and continued like any other.
    let len = len.min(i32::MAX as usize) as u32;
    opcode::Send::new(fd(socket), bytes, len).flags(flags).build().user_data(op.user_data())
}

/// The single byte number `index` from `first`, linked to what follows it.
fn piece(socket: BorrowedFd<'_>, first: *const u8, index: u8, conn: ConnId) -> squeue::Entry {
    let op = Op { kind: Kind::Piece, conn };
    send(socket, first.wrapping_add(index.into()), 1, libc::MSG_NOSIGNAL, op).flags(squeue::Flags::IO_LINK)
}

fn fd(of: BorrowedFd<'_>) -> Fd {
    Fd(of.as_raw_fd())
}

fn unavailable(step: &'static str, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Unavailable { step, source })
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "forbidden by the sysctl kernel.io_uring_disabled or by the container's seccomp profile"
            }
            Some(libc::ENOSYS) => "this kernel, or the sandbox around it, has no io_uring",
            Some(libc::EINVAL) => "io_uring is older here than it must be: Linux 6.1 or later is needed",
            Some(libc::ENOMEM) => "no memory for the rings: raise the limit of locked memory (`ulimit -l`)",
            _ => "io_uring can't be used here",
        };
        write!(f, "{}: {}: {advice}; `--engine epoll` works everywhere", self.step, self.source)
    }
}

impl std::error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    /// From here on `call` ends with `errno` on this thread, as a container's seccomp profile does it.
    fn forbid(call: libc::c_long, errno: i32) {
        const LOAD_CALL: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
        let mut steps = [
            step(LOAD_CALL, 0, 0, 0),
            step(JUMP_IF_EQUAL, call as u32, 0, 1),
            step(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
            step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        // SAFETY: the program is well-formed and alive during the call, and binds this thread alone.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let filter = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, filter, &raw const program), 0);
        }
    }

    #[test]
    fn the_ring_does_nothing_but_its_work() {
        let mut ring = super::Ring::new(8, 16).unwrap();
        ring.enable().unwrap();
        let path = c"/etc/passwd";
        let open = io_uring::opcode::OpenAt::new(io_uring::types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        // SAFETY: the path is static.
        unsafe { ring.ring.submission().push(&open.user_data(7)) }.unwrap();
        ring.ring.submit_and_wait(1).unwrap();
        let end = ring.ring.completion().next().unwrap();
        assert_eq!((end.user_data(), end.result()), (7, -libc::EACCES));
    }

    fn refusal(call: libc::c_long, errno: i32) -> String {
        let refused = move || {
            forbid(call, errno);
            super::super::Uring::probe_kernel().map_err(|error| error.to_string())
        };
        thread::spawn(refused).join().unwrap().unwrap_err()
    }

    #[test]
    fn a_refusal_says_which_step_and_what_to_do() {
        let cases = [
            (libc::SYS_io_uring_setup, libc::EPERM, "io_uring_setup: ", "kernel.io_uring_disabled"),
            (libc::SYS_io_uring_setup, libc::ENOSYS, "io_uring_setup: ", "has no io_uring"),
            (libc::SYS_io_uring_setup, libc::EINVAL, "io_uring_setup: ", "Linux 6.1"),
            (libc::SYS_io_uring_setup, libc::ENOMEM, "io_uring_setup: ", "ulimit -l"),
            (libc::SYS_io_uring_register, libc::EPERM, "io_uring_register: ", "seccomp"),
            (libc::SYS_io_uring_enter, libc::EPERM, "io_uring_enter: ", "seccomp"),
        ];
        for (call, errno, step, advice) in cases {
            let said = refusal(call, errno);
            assert!(said.starts_with(step) && said.contains(advice), "{said}");
            assert!(said.ends_with("`--engine epoll` works everywhere"), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
