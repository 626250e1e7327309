//! The limit of open files, and how many runners it holds.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

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

/// About how many idle runners `connections` hold.
pub const fn runners(connections: usize) -> usize {
    connections / SOCKETS_PER_RUNNER
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_reserved_is_not_for_connections() {
        let descriptors = Descriptors { before: 1024, limit: 1024 };
        assert_eq!(descriptors.connections_max(124), 900);
        assert_eq!(runners(900), 300);
        assert_eq!(descriptors.connections_max(2_000), 0);
    }
}
