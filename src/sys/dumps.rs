//! Core dumps, which would hold the process's secrets.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use std::io;

/// From here on the process leaves no core dump, and nobody but root can trace it or read its memory or
/// its environment (PR_SET_DUMPABLE 0: prctl(2), proc(5)).
///
/// The kernel undoes the second half when the process changes its user: call it again then.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(prctl::set_dumpable(false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::getrlimit;

    #[test]
    fn no_dump_is_left_and_nobody_looks_in() {
        forbid().expect("allowed");
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(prctl::get_dumpable(), Ok(false));
    }
}
