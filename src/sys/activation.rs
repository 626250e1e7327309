//! Listening sockets that the service manager hands over (LISTEN_FDS), so that a restart refuses no connection.

use super::listen::Side;
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The sockets that the service manager handed over.
#[derive(Debug, Default)]
pub struct Activated {
    /// FileDescriptorName=runner, or the only socket if it has no name.
    pub runner: Option<OwnedFd>,
    /// FileDescriptorName=dispatch.
    pub dispatch: Option<OwnedFd>,
    /// FileDescriptorName=admin.
    pub admin: Option<OwnedFd>,
}

/// Why the descriptors of LISTEN_FDS cannot be used: one line that names the remedy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// The variables contradict each other, or a descriptor is not open.
    #[error("LISTEN_FDS: {0}: start the service by its .socket unit, or unset LISTEN_PID")]
    Variables(String),
    /// A name that belongs to no listener.
    #[error(
        "LISTEN_FDNAMES {0:?} names no listener: set FileDescriptorName= in the .socket unit to runner, dispatch or admin"
    )]
    Name(String),
    #[error(
        "LISTEN_FDNAMES: two sockets are named {0}: use one .socket unit with one ListenStream= for each listener"
    )]
    Twice(Side),
    /// The process cannot accept connections on it.
    #[error(
        "LISTEN_FDS: the socket for {0} does not listen: use ListenStream= with Accept=no in the .socket unit"
    )]
    NotListening(Side),
}

/// Takes the sockets that the service manager handed over to this process (LISTEN_PID). Usually there are none. Call
/// it once, before the process opens any descriptor.
pub fn take() -> Result<Activated, ActivationError> {
    // The variables may be inherited from a parent; sd-notify would then not find the sockets that they name.
    let ours = std::process::id().to_string();
    if std::env::var("LISTEN_PID").as_ref() != Ok(&ours) {
        return Ok(Activated::default());
    }
    // sd-notify sets close-on-exec on each descriptor, and fails if one is not open.
    let named: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()
        .map_err(|error| ActivationError::Variables(error.to_string()))?
        .collect();
    let mut activated = Activated::default();
    for (fd, side) in assign(&named)? {
        // SAFETY: sd-notify has just made a successful fcntl on `fd`, so it is open, and nothing closes it here.
        let listens = getsockopt(&unsafe { BorrowedFd::borrow_raw(fd) }, sockopt::AcceptConn);
        if listens != Ok(true) {
            return Err(ActivationError::NotListening(side));
        }
        // SAFETY: the protocol gives descriptors from 3 on to this process (LISTEN_PID is ours). `take` is called once
        // and `assign` names each descriptor once, so nothing else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        *activated.slot(side) = Some(owned);
    }
    Ok(activated)
}

impl Activated {
    fn slot(&mut self, side: Side) -> &mut Option<OwnedFd> {
        match side {
            Side::Runner => &mut self.runner,
            Side::Dispatch => &mut self.dispatch,
            Side::Admin => &mut self.admin,
        }
    }
}

/// Assigns each descriptor to a listener.
fn assign(named: &[(RawFd, String)]) -> Result<Vec<(RawFd, Side)>, ActivationError> {
    let mut assigned: Vec<(RawFd, Side)> = Vec::new();
    for (fd, name) in named {
        let side = match name.as_str() {
            "runner" => Side::Runner,
            "dispatch" => Side::Dispatch,
            "admin" => Side::Admin,
            // Without FileDescriptorName= systemd gives the name of the unit.
            unnamed
                if named.len() == 1
                    && (matches!(unnamed, "" | "unknown") || unnamed.ends_with(".socket")) =>
            {
                Side::Runner
            }
            _ => return Err(ActivationError::Name(name.clone())),
        };
        if assigned.iter().any(|(_, taken)| *taken == side) {
            return Err(ActivationError::Twice(side));
        }
        assigned.push((*fd, side));
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<(RawFd, String)> {
        (3..).zip(names.iter().map(|name| name.to_string())).collect()
    }

    #[test]
    fn names_assign_the_sockets() {
        assert_eq!(
            assign(&named(&["admin", "runner", "dispatch"])),
            Ok(vec![(3, Side::Admin), (4, Side::Runner), (5, Side::Dispatch)])
        );
        assert_eq!(assign(&[]), Ok(vec![]));
    }

    #[test]
    fn a_single_unnamed_socket_is_for_runners() {
        for name in ["", "unknown", "pilotlight.socket"] {
            assert_eq!(assign(&named(&[name])), Ok(vec![(3, Side::Runner)]), "{name}");
        }
        assert_eq!(assign(&named(&["admin"])), Ok(vec![(3, Side::Admin)]));
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        assert_eq!(assign(&named(&["dispach"])), Err(ActivationError::Name("dispach".to_owned())));
        assert_eq!(
            assign(&named(&["pilotlight.socket", "admin"])),
            Err(ActivationError::Name("pilotlight.socket".to_owned()))
        );
        assert_eq!(assign(&named(&["runner", "runner"])), Err(ActivationError::Twice(Side::Runner)));
    }
}
