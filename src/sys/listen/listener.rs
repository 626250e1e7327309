//! A listening socket of either address family, and its address.

use socket2::{Domain, SockRef, Socket};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes over a socket from the service manager, and makes it non-blocking.
    pub fn adopt(fd: OwnedFd) -> io::Result<Listener> {
        let socket = Socket::from(fd);
        socket.set_nonblocking(true)?;
        Ok(match socket.domain()? == Domain::UNIX {
            true => Listener::Unix(OwnedFd::from(socket).into()),
            false => Listener::Tcp(socket.into()),
        })
    }

    /// Another descriptor of the same socket.
    pub fn try_clone(&self) -> io::Result<Listener> {
        match self {
            Listener::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            Listener::Unix(listener) => listener.try_clone().map(Listener::Unix),
        }
    }

    pub fn local(&self) -> io::Result<Local> {
        local_of(self)
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The address at which clients reach a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    Address(SocketAddr),
    Path(PathBuf),
}

impl Local {
    /// Whether only this host, or this container, can reach it.
    pub fn is_private(&self) -> bool {
        match self {
            Local::Address(addr) => addr.ip().to_canonical().is_loopback(),
            Local::Path(_) => true,
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Local::Address(addr) => write!(f, "{addr}"),
            Local::Path(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The address of a listening socket.
pub fn local_of(fd: &impl AsFd) -> io::Result<Local> {
    let addr = SockRef::from(fd).local_addr()?;
    match addr.as_socket() {
        Some(addr) => Ok(Local::Address(addr)),
        None if addr.is_unix() => Ok(Local::Path(addr.as_pathname().map(PathBuf::from).unwrap_or_default())),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}
