//! The system calls that a data-plane thread needs once it runs, and no others (seccomp(2)).
//!
//! What is not listed fails with EPERM. It does not kill: a C library that one day asks for something new
//! must not take thousands of held polls with it, and what is refused is refused either way. Memory can't
//! be made executable, and nothing can be opened, connected, started or traced.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::collections::BTreeMap;
use std::io;

/// Taken whatever their arguments are.
const ALLOWED: &[libc::c_long] = &[
    // Sockets that are there.
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
    // A thread's life and its end, an orderly one or by a panic.
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

/// Older ways to wait, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Taken if their third argument does not ask for executable memory.
const NOT_EXECUTABLE: &[libc::c_long] = &[libc::SYS_mmap, libc::SYS_mprotect];

/// A filter, ready to be applied.
#[derive(Clone, Debug)]
pub struct Filter(BpfProgram);

impl Filter {
    /// For threads of the data plane.
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

    /// Binds the calling thread, for good.
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

    /// What `attempt` comes to on a thread with the filter.
    fn filtered<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let filter = Filter::for_data_plane().unwrap();
        let body = move || {
            filter.apply().unwrap();
            attempt()
        };
        thread::spawn(body).join().unwrap()
    }

    #[test]
    fn what_the_data_plane_has_no_use_for_is_refused() {
        let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        let open = || File::open("/etc/passwd").map(drop).unwrap_err();
        denied(filtered(open));
        denied(filtered(|| TcpStream::connect("127.0.0.1:1").map(drop).unwrap_err()));
        denied(filtered(|| TcpListener::bind("127.0.0.1:0").map(drop).unwrap_err()));
        denied(filtered(|| Command::new("/bin/true").spawn().map(drop).unwrap_err()));
        let executable = filtered(|| {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a mapping of its own, which nobody uses.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) };
            (at == libc::MAP_FAILED).then(io::Error::last_os_error)
        });
        denied(executable.expect("refused"));
    }

    #[test]
    fn what_it_needs_is_not() {
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
