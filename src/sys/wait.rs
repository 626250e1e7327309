//! Waits for a descriptor with a timeout in nanoseconds; epoll's own timeouts are whole milliseconds.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Returns true once `waited` can be read (for an epoll descriptor: once it has events), false after `timeout`. A
/// signal ends the wait early.
pub fn readable(waited: &impl AsRawFd, timeout: Duration) -> io::Result<bool> {
    // SAFETY: `waited` owns the descriptor and is borrowed for longer than this call.
    let fd = unsafe { BorrowedFd::borrow_raw(waited.as_raw_fd()) };
    match ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], Some(TimeSpec::from_duration(timeout)), None) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes this thread's timeouts end on time; by default the kernel adds up to 50 us to each (prctl(2),
/// PR_SET_TIMERSLACK).
pub fn reduce_timer_slack() {
    // If the kernel refuses, timeouts stay up to 50 us late.
    let _ = set_timerslack(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn a_wait_ends_with_the_first_byte_or_the_timeout() {
        let (mut left, right) = UnixStream::pair().unwrap();
        let began = Instant::now();
        assert!(!readable(&right, Duration::from_micros(1_500)).unwrap());
        assert!(began.elapsed() >= Duration::from_micros(1_500));
        left.write_all(b"x").unwrap();
        assert!(readable(&right, Duration::from_secs(60)).unwrap());
    }
}
