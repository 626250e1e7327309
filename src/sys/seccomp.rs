//! Limits a worker's thread to the system calls that it needs once it runs (seccomp(2)).
//!
//! Every other call fails with EPERM. The filter does not kill the process: a call that a new C library adds must not
//! end thousands of held polls. EPERM refuses the call just as well. A filtered thread cannot make memory executable,
//! and cannot open, connect, start or trace anything.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::collections::BTreeMap;
use std::io;

/// Allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Open sockets.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    // Waiting.
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_ppoll,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory; see `NOT_EXECUTABLE`.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Running a thread, and ending it by return or by panic.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older calls for waiting, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Allowed if their third argument does not ask for executable memory.
const NOT_EXECUTABLE: &[libc::c_long] = &[libc::SYS_mmap, libc::SYS_mprotect];

#[derive(Clone, Debug)]
pub struct Filter(BpfProgram);

impl Filter {
    /// The filter for workers' threads.
    pub fn for_data_plane() -> io::Result<Filter> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        rules.extend(ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())));
        let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        let condition =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, executable, 0).map_err(io::Error::other)?;
        let rule = SeccompRule::new(vec![condition]).map_err(io::Error::other)?;
        rules.extend(NOT_EXECUTABLE.iter().map(|call| (*call, vec![rule.clone()])));
        let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter =
            SeccompFilter::new(rules, refused, SeccompAction::Allow, arch).map_err(io::Error::other)?;
        Ok(Filter(filter.try_into().map_err(io::Error::other)?))
    }

    /// Filters the calling thread for the rest of its life.
    pub fn apply(&self) -> io::Result<()> {
        apply_filter(&self.0).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    /// Runs `attempt` on a thread with the filter.
    fn filtered<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let filter = Filter::for_data_plane().unwrap();
        let body = move || {
            filter.apply().unwrap();
            attempt()
        };
        thread::spawn(body).join().unwrap()
    }

    #[test]
    fn other_system_calls_are_refused() {
        let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        let open = || File::open("/etc/passwd").map(drop).unwrap_err();
        denied(filtered(open));
        denied(filtered(|| TcpStream::connect("127.0.0.1:1").map(drop).unwrap_err()));
        denied(filtered(|| TcpListener::bind("127.0.0.1:0").map(drop).unwrap_err()));
        denied(filtered(|| Command::new("/bin/true").spawn().map(drop).unwrap_err()));
        let executable = filtered(|| {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping, which nothing uses.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) };
            (at == libc::MAP_FAILED).then(io::Error::last_os_error)
        });
        denied(executable.expect("refused"));
    }

    #[test]
    fn a_worker_s_system_calls_are_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let served = filtered(move || {
            let (mut stream, _) = listener.accept()?;
            io::Write::write_all(&mut stream, &vec![1; 1 << 20][..1 << 10])?;
            stream.set_nodelay(true)?;
            stream.peer_addr()
        });
        assert_eq!(served.unwrap(), client.local_addr().unwrap());
    }
}
