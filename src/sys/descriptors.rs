//! The limit of open files, how many runners it holds, and whose descriptors it is about.
//!
//! RLIMIT_NOFILE bounds a table of descriptors, not a process (getrlimit(2)), and threads need not share
//! theirs (clone(2), CLONE_FILES). A table with one user is cheaper: the kernel counts no references to
//! a file while it serves a call (`fdget` in fs/file.c), and takes a lock that nobody else takes for each new
//! descriptor.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::RawFd;
use std::thread;

/// An idle runner's sockets at their peak: its poll, the next poll's connection, and one just aborted.
pub const SOCKETS_PER_RUNNER: usize = 3;

/// What RLIMIT_NOFILE was and is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The soft limit that the process was started with.
    pub before: usize,
    /// The soft limit now.
    pub limit: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard one. If that is refused the limit stays as it was.
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

    /// How many connections fit beside `reserved` descriptors.
    pub const fn connections_max(&self, reserved: usize) -> usize {
        self.limit.saturating_sub(reserved)
    }
}

/// Gives this thread a table of its own: a copy of the one that it shared, from which `unwanted` are closed.
/// What the copy holds of others' descriptors stays open until it is closed here too. Nothing in this thread may
/// own one of `unwanted`.
///
/// # Errors
/// The kernel is older than 5.9, or a sandbox refuses close_range(2). Nothing has happened then.
pub fn take_own_table(unwanted: &[RawFd]) -> io::Result<()> {
    // An empty range: all that is asked for is the copy. (unshare(2) does the same, but containers forbid it.)
    close_range(libc::c_uint::MAX, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    close(unwanted);
    Ok(())
}

/// Closes descriptors that nothing owns in this thread's table: their owners have tables of their own.
pub fn close(disowned: &[RawFd]) {
    for fd in disowned.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()) {
        // Without flags there is nothing that it could refuse.
        let _ = close_range(fd, fd, 0);
    }
}

/// Whether threads can have tables of their own, tried on one that ends with it.
pub fn own_tables_can_be_had() -> bool {
    thread::spawn(|| take_own_table(&[])).join().is_ok_and(|taken| taken.is_ok())
}

fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: touches descriptors only, none of which is owned by safe code in this thread: callers name those that
    // are not, and the range beyond every descriptor is empty.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// About how many idle runners `connections` hold.
pub const fn runners(connections: usize) -> usize {
    connections / SOCKETS_PER_RUNNER
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, fcntl};
    use std::os::fd::{AsRawFd, BorrowedFd};

    fn borrow(fd: RawFd) -> BorrowedFd<'static> {
        // SAFETY: it is only asked whether it is open.
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
    fn a_thread_with_its_own_table_neither_sees_nor_closes_others_descriptors() {
        assert!(own_tables_can_be_had());
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
        assert!(unwanted, "a copy, without what was unwanted");
        assert_eq!(later, writing, "its place was free again there");
        // Here it is still the pipe's end, and the last one: what is read behind its close is the end.
        drop(writer);
        assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).expect("an end"), 0);
    }

    #[test]
    fn what_is_reserved_is_not_for_connections() {
        let descriptors = Descriptors { before: 1024, limit: 1024 };
        assert_eq!(descriptors.connections_max(124), 900);
        assert_eq!(runners(900), 300);
        assert_eq!(descriptors.connections_max(2_000), 0);
    }
}
