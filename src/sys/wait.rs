//! Waiting for a descriptor to the nanosecond, where epoll's own time-outs are whole milliseconds.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// True once `waited` can be read (an epoll node: has events), false after `timeout`. A signal ends it early.
pub fn readable(waited: &impl AsRawFd, timeout: Duration) -> io::Result<bool> {
    // SAFETY: `waited` owns the descriptor and is borrowed for longer than this call.
    let fd = unsafe { BorrowedFd::borrow_raw(waited.as_raw_fd()) };
    match ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], Some(TimeSpec::from_duration(timeout)), None) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Lets this thread's time-outs end on time: the kernel adds up to 50 us to each otherwise (prctl(2), PR_SET_TIMERSLACK).
pub fn sharpen_timers() {
    // A kernel that refuses leaves the 50 us.
    let _ = set_timerslack(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn it_ends_with_the_first_byte_or_the_time() {
        let (mut left, right) = UnixStream::pair().unwrap();
        let began = Instant::now();
        assert!(!readable(&right, Duration::from_micros(1_500)).unwrap());
        assert!(began.elapsed() >= Duration::from_micros(1_500));
        left.write_all(b"x").unwrap();
        assert!(readable(&right, Duration::from_secs(60)).unwrap());
    }
}
