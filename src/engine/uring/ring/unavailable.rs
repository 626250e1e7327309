//! Why io_uring cannot be used here.

use std::fmt;
use std::io;

/// Names the failed step, what the kernel answered, and what to do.
#[derive(Debug)]
struct Unavailable {
    step: &'static str,
    source: io::Error,
}

pub fn unavailable(step: &'static str, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Unavailable { step, source })
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "forbidden by the sysctl kernel.io_uring_disabled or by the container's seccomp profile"
            }
            Some(libc::ENOSYS) => "this kernel, or the sandbox around it, has no io_uring",
            Some(libc::EINVAL) => "this kernel's io_uring is too old: Linux 6.1 or later is needed",
            Some(libc::ENOMEM) => "no memory for the rings: raise the limit of locked memory (`ulimit -l`)",
            _ => "io_uring cannot be used here",
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
    use crate::engine::uring::Uring;
    use std::thread;

    /// Makes `call` fail with `errno` on this thread from now on, as a container's seccomp profile does.
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
        // SAFETY: the program is well-formed and alive during the call, and applies to this thread only.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let filter = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, filter, &raw const program), 0);
        }
    }

    fn refusal(call: libc::c_long, errno: i32) -> String {
        let refused = move || {
            forbid(call, errno);
            Uring::probe_kernel().map_err(|error| error.to_string())
        };
        thread::spawn(refused).join().unwrap().unwrap_err()
    }

    #[test]
    fn a_refusal_names_the_step_and_the_remedy() {
        let cases = [
            (libc::SYS_io_uring_setup, libc::EPERM, "io_uring_setup: ", "kernel.io_uring_disabled"),
            (libc::SYS_io_uring_setup, libc::ENOSYS, "io_uring_setup: ", "has no io_uring"),
            (libc::SYS_io_uring_setup, libc::EINVAL, "io_uring_setup: ", "Linux 6.1"),
            (libc::SYS_io_uring_setup, libc::ENOMEM, "io_uring_setup: ", "ulimit -l"),
            (libc::SYS_io_uring_register, libc::EPERM, "io_uring_register: ", "seccomp"),
            (libc::SYS_io_uring_enter, libc::EPERM, "io_uring_enter: ", "seccomp"),
        ];
        for (call, errno, step, advice) in cases {
            let line = refusal(call, errno);
            assert!(line.starts_with(step) && line.contains(advice), "{line}");
            assert!(line.ends_with("`--engine epoll` works everywhere"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
