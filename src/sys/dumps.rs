//! Core dumps, which would contain the process's secrets.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use std::io;

/// From now on the process leaves no core dump. Only root can trace it or read its memory or environment
/// (PR_SET_DUMPABLE 0: prctl(2), proc(5)).
///
/// The kernel undoes PR_SET_DUMPABLE when the process changes its user. Call this again after that.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(prctl::set_dumpable(false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::getrlimit;

    #[test]
    fn dumps_and_tracing_are_forbidden() {
        forbid().expect("allowed");
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(prctl::get_dumpable(), Ok(false));
    }
}
