//! Why a listener could not be opened.

use super::side::Side;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a listener could not be opened: one line that names the flag, the address and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// EADDRINUSE.
    #[error("{flag} {addr}: the address is in use: stop the process that listens there, choose another port (0 takes a free one), or join a running pilotlight with --takeover", flag = .side.flag())]
    InUse { side: Side, addr: SocketAddr },
    /// EACCES, EPERM.
    #[error("{flag} {addr}: not permitted: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE", flag = .side.flag())]
    Permission { side: Side, addr: SocketAddr },
    /// EADDRNOTAVAIL.
    #[error("{flag} {addr}: this host has no such address: choose one that `ip address` lists, or 0.0.0.0 for all", flag = .side.flag())]
    NotAvailable { side: Side, addr: SocketAddr },
    /// EMFILE, ENFILE.
    #[error("{flag} {addr}: no descriptor left: raise the limit (`ulimit -n`, LimitNOFILE)", flag = .side.flag())]
    Descriptors { side: Side, addr: SocketAddr },
    /// EAFNOSUPPORT.
    #[error("{flag} {addr}: that address family is disabled on this host: choose an IPv{other} address", flag = .side.flag(), other = if .addr.is_ipv6() { 4 } else { 6 })]
    Family { side: Side, addr: SocketAddr },
    /// A path on which the process cannot listen.
    #[error("{flag} unix:{path}: {advice}", flag = .side.flag(), path = .path.display())]
    Unix {
        side: Side,
        path: PathBuf,
        /// What is wrong, and what to do.
        advice: String,
    },
    /// A socket from the service manager.
    #[error("{flag}: cannot use the socket that the service manager handed over (LISTEN_FDS): {source}: check ListenStream= in its .socket unit, and LimitNOFILE", flag = .side.flag())]
    HandedOver { side: Side, source: io::Error },
    #[error("{flag} {addr}: cannot listen: {source}", flag = .side.flag())]
    Other { side: Side, addr: SocketAddr, source: io::Error },
}

impl ListenError {
    /// Names the failure of socket, bind or listen.
    pub fn new(side: Side, addr: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => ListenError::InUse { side, addr },
            Some(libc::EACCES | libc::EPERM) => ListenError::Permission { side, addr },
            Some(libc::EADDRNOTAVAIL) => ListenError::NotAvailable { side, addr },
            Some(libc::EMFILE | libc::ENFILE) => ListenError::Descriptors { side, addr },
            Some(libc::EAFNOSUPPORT) => ListenError::Family { side, addr },
            _ => ListenError::Other { side, addr, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_gives_advice() {
        let addr: SocketAddr = "[::1]:80".parse().expect("an address");
        for (errno, advice) in [
            (libc::EADDRINUSE, "choose another port"),
            (libc::EACCES, "from 1024 up"),
            (libc::EADDRNOTAVAIL, "no such address"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EAFNOSUPPORT, "choose an IPv4 address"),
            (libc::ENOBUFS, "No buffer space"),
        ] {
            let error = ListenError::new(Side::Dispatch, addr, io::Error::from_raw_os_error(errno));
            let line = error.to_string();
            assert!(line.starts_with("--dispatch-listen [::1]:80: "), "{line}");
            assert!(line.contains(advice), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
