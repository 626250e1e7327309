//! The ring: operations in, completions out, one `io_uring_enter` per turn.

mod operations;
mod restrictions;
mod unavailable;

use super::op::Op;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use restrictions::restrictions;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use unavailable::unavailable;

/// The group of receive buffers; a ring has one.
const BUFFER_GROUP: u16 = 0;
/// The most operations in one chain, which is submitted in one piece.
const CHAIN_MAX: u32 = 4;
/// How long the end of an engine waits for the cancellation of its operations.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// Enters that [`Ring::carry_out`] makes at most. The cancellation of a receive takes three steps.
const CARRY_OUT_MAX: u32 = 8;

/// The ring of one worker's thread.
pub struct Ring {
    ring: IoUring,
    /// Operations that did not fit into the submission queue.
    backlog: VecDeque<Box<[squeue::Entry]>>,
    /// Turns that found the completion queue overflowed: the kernel kept what did not fit.
    pub overflows: u64,
}

/// The only or last result of an operation, or one of several.
pub struct Completion {
    pub op: Op,
    /// Zero or more, or a negated errno.
    pub result: i32,
    /// The operation goes on.
    pub more: bool,
    /// The buffer with the received bytes.
    pub buffer: Option<u16>,
}

impl Ring {
    /// A ring of [`CHAIN_MAX`] submissions or more. It takes no submission before [`Ring::enable`], and the thread
    /// that calls that owns it.
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

    /// Makes the calling thread the one that submits, and submits what is queued.
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
        // SAFETY: the caller keeps this function's contract.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }
            .map_err(|source| unavailable("io_uring_register", source))
    }

    /// Whether the kernel has completions for which the queue has no room.
    pub fn has_overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Submits what is queued; makes no call if nothing is.
    pub fn submit(&mut self) -> io::Result<()> {
        match self.backlog.is_empty() && self.ring.submission().is_empty() {
            true => Ok(()),
            false => self.enter(Some(Duration::ZERO)),
        }
    }

    /// Submits what is queued and lets the kernel do its deferred work. A receive holds a socket that is being closed
    /// until its cancellation has run, in several steps.
    pub fn carry_out(&mut self) {
        for _ in 0..CARRY_OUT_MAX {
            // A failure comes back in `wait`, which reports it.
            let _ = self.enter(Some(Duration::ZERO));
            if !self.ring.submission().taskrun() {
                break;
            }
        }
    }

    /// Submits, waits for a completion or the timeout (`None`: no timeout), and lets the kernel post what is ready.
    pub fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let more = self.flush_backlog();
        if self.has_overflowed() {
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
                // EBUSY, EAGAIN: no room or memory now; what the kernel did not take stays queued.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether the kernel has more completions, which the next enter posts. One enter posts a few dozen at most
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

    /// Submits what is queued and cancels all operations: after that none uses the memory that it refers to. Call
    /// it before you drop that memory.
    pub fn end(&mut self) {
        // A failure here cannot be handled: closing the ring, which comes next, cancels as well.
        self.flush_backlog();
        let _ = self.ring.submit();
        let timeout = Timespec::from(CANCEL_TIMEOUT);
        let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
        let _ = self.ring.submit();
    }

    /// The number of completions that are posted and not taken yet.
    pub fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.push_chain(&[entry]);
    }

    /// Queues entries side by side: a chain of links must be submitted in one piece. Operations take effect in the
    /// order in which they are queued.
    fn push_chain(&mut self, entries: &[squeue::Entry]) {
        if !self.backlog.is_empty() || !self.queue_or_submit(entries) {
            self.backlog.push_back(entries.into());
        }
    }

    /// Queues the entries. Submits what is queued first if there is no room.
    fn queue_or_submit(&mut self, entries: &[squeue::Entry]) -> bool {
        self.queue(entries) || (self.ring.submit().is_ok() && self.queue(entries))
    }

    /// Queues all of the entries, or none if there is no room for all.
    fn queue(&mut self, entries: &[squeue::Entry]) -> bool {
        // SAFETY: every entry comes from a method of `operations`. It refers to the registered buffers, or to memory
        // that the caller of an unsafe method keeps valid.
        unsafe { self.ring.submission().push_multiple(entries) }.is_ok()
    }

    /// Moves the backlog into the queue. Returns true if some of it is left.
    fn flush_backlog(&mut self) -> bool {
        while let Some(chain) = self.backlog.pop_front() {
            if !self.queue_or_submit(&chain) {
                self.backlog.push_front(chain);
                return true;
            }
        }
        false
    }
}
