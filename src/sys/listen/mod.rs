//! Opens listeners: binds them, or takes them over from the service manager, and hands them over to a successor.

mod bind;
mod count;
mod error;
mod handover;
mod listener;
mod side;
mod unix;

pub use bind::{backlog_max, bind};
pub use error::ListenError;
pub use handover::ListenGroup;
pub use listener::{Listener, Local, local_of};
pub use side::Side;
pub use unix::{PATH_BYTES_MAX, SocketFile, UnixOptions};

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum ListenSpec {
    Addr(SocketAddr),
    /// Bind a Unix domain socket to this path.
    Unix(PathBuf),
    /// A listening socket from the service manager (systemd socket activation). A predecessor or a successor may
    /// share it, so never call `shutdown` on it.
    Fd(Arc<OwnedFd>),
}

impl ListenSpec {
    /// Whether only this host, or this container, can reach it.
    pub fn is_private(&self) -> bool {
        match self {
            ListenSpec::Addr(addr) => Local::Address(*addr).is_private(),
            ListenSpec::Unix(_) => true,
            ListenSpec::Fd(fd) => local_of(fd).is_ok_and(|local| local.is_private()),
        }
    }

    pub fn is_unix(&self) -> bool {
        match self {
            ListenSpec::Unix(_) => true,
            ListenSpec::Addr(_) => false,
            ListenSpec::Fd(fd) => local_of(fd).is_ok_and(|local| matches!(local, Local::Path(_))),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Length of the accept queue; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// Fail if another process listens there.
    pub exclusive: bool,
    pub unix: UnixOptions,
}

/// A listener, with its address.
#[derive(Debug)]
pub struct Opened {
    pub listener: Listener,
    /// Port 0 is resolved.
    pub local: Local,
    /// The file of a Unix domain socket that this process has bound.
    pub file: Option<SocketFile>,
}

/// Opens a non-blocking listener.
pub fn open(side: Side, spec: &ListenSpec, options: &ListenOptions) -> Result<Opened, ListenError> {
    match spec {
        ListenSpec::Addr(addr) => {
            let listener = bind(side, *addr, options.backlog, options.exclusive)?;
            let local = listener.local_addr().map_err(|source| ListenError::new(side, *addr, source))?;
            Ok(Opened { listener: listener.into(), local: Local::Address(local), file: None })
        }
        ListenSpec::Unix(path) => {
            let (listener, file) = unix::bind(side, path, options.backlog, &options.unix, options.exclusive)?;
            let local = Local::Path(file.path().to_owned());
            Ok(Opened { listener: Listener::Unix(listener), local, file: Some(file) })
        }
        ListenSpec::Fd(fd) => {
            let adopted = fd.try_clone().and_then(Listener::adopt);
            let located = adopted.and_then(|listener| listener.local().map(|local| (listener, local)));
            let (listener, local) = located.map_err(|source| ListenError::HandedOver { side, source })?;
            Ok(Opened { listener, local, file: None })
        }
    }
}
