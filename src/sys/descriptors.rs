//! The limit of open files, how many runners it allows, and tables of descriptors per thread.
//!
//! RLIMIT_NOFILE bounds a table of descriptors, not a process (getrlimit(2)), and threads need not share one (clone(2),
//! CLONE_FILES). A table with one user is cheaper: the kernel counts no references to a file while it serves a call
//! (`fdget` in fs/file.c). And no other thread contends for the lock that each new descriptor takes.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::RawFd;
use std::thread;

/// The most sockets per idle runner: its poll, the next poll's connection, and one that it has just aborted.
pub const SOCKETS_PER_RUNNER: usize = 3;

/// RLIMIT_NOFILE before and after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The soft limit with which the process started.
    pub before: usize,
    /// The soft limit now.
    pub limit: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard one. If the kernel refuses, the limit stays as it was.
    pub fn raise() -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let limit = match soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
            true => hard,
            false => soft,
        };
        Ok(Descriptors {
            before: usize::try_from(soft).unwrap_or(usize::MAX),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    /// How many connections the limit allows beside `reserved` descriptors.
    pub const fn connections_max(&self, reserved: usize) -> usize {
        self.limit.saturating_sub(reserved)
    }
}

/// Gives this thread its own table: a copy of the shared one, without `unwanted`. Every other descriptor in the
/// copy keeps its file open until this thread closes it too. Nothing in this thread may own one of `unwanted`.
///
/// # Errors
/// The kernel is older than 5.9, or a sandbox refuses close_range(2). The thread then still shares its table.
pub fn take_own_table(unwanted: &[RawFd]) -> io::Result<()> {
    // The range is empty: only the copy matters. (unshare(2) makes one too, but containers forbid it.)
    close_range(libc::c_uint::MAX, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    close(unwanted);
    Ok(())
}

/// Closes descriptors whose owners have their own tables: nothing in this thread's table owns them.
pub fn close(disowned: &[RawFd]) {
    for fd in disowned.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()) {
        // Without flags the kernel has nothing to refuse.
        let _ = close_range(fd, fd, 0);
    }
}

/// Whether threads can have their own tables. Tries it on a short-lived thread.
pub fn supports_own_tables() -> bool {
    thread::spawn(|| take_own_table(&[])).join().is_ok_and(|taken| taken.is_ok())
}

fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: touches descriptors only, and safe code in this thread owns none of them. Callers name disowned
    // descriptors, or a range beyond every descriptor, which is empty.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// About how many idle runners `connections` serve.
pub const fn runners(connections: usize) -> usize {
    connections / SOCKETS_PER_RUNNER
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, fcntl};
    use std::os::fd::{AsRawFd, BorrowedFd};

    fn borrow(fd: RawFd) -> BorrowedFd<'static> {
        // SAFETY: the caller only asks whether it is open.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        let soft = hard.min(1_000);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("lowered");
        let raised = Descriptors::raise().expect("limits");
        assert_eq!((raised.before as u64, raised.limit as u64), (soft, hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
        let again = Descriptors::raise().expect("limits");
        assert_eq!(again.before, again.limit);
    }

    #[test]
    fn an_own_table_separates_a_thread_s_descriptors() {
        assert!(supports_own_tables());
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (reading, writing) = (reader.as_raw_fd(), writer.as_raw_fd());
        let (unwanted, later) = thread::spawn(move || {
            take_own_table(&[writing]).expect("a table");
            let is_open = |fd| fcntl(borrow(fd), FcntlArg::F_GETFD).is_ok();
            let unwanted = is_open(reading) && !is_open(writing);
            let mine = std::fs::File::open("/dev/null").expect("a file");
            (unwanted, mine.as_raw_fd())
        })
        .join()
        .expect("no panic");
        assert!(unwanted, "a copy without the unwanted one");
        assert_eq!(later, writing, "its number is free in that table");
        // In this table the writer is still the pipe's last one, so its close ends the stream.
        drop(writer);
        assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).expect("an end"), 0);
    }

    #[test]
    fn reserved_descriptors_are_not_for_connections() {
        let descriptors = Descriptors { before: 1024, limit: 1024 };
        assert_eq!(descriptors.connections_max(124), 900);
        assert_eq!(runners(900), 300);
        assert_eq!(descriptors.connections_max(2_000), 0);
    }
}
