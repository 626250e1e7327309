//! Binding listeners, and saying what is wrong when that fails.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::tcp;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Which of the three listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Runners connect here.
    Runner,
    /// Supervisors connect here.
    Dispatch,
    /// Operators and their machines connect here.
    Admin,
}

impl Side {
    /// The flag that sets this listener's address.
    pub const fn flag(self) -> &'static str {
        match self {
            Side::Runner => "--listen",
            Side::Dispatch => "--dispatch-listen",
            Side::Admin => "--admin-listen",
        }
    }

    /// The name in logs and in LISTEN_FDNAMES.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Runner => "runner",
            Side::Dispatch => "dispatch",
            Side::Admin => "admin",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a listener could not be had; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// EADDRINUSE.
    #[error("{flag} {addr}: the address is in use: stop what listens there, choose another port (0 takes a free one), or join a running pilotlight with --takeover", flag = .side.flag())]
    InUse {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
    },
    /// EACCES, EPERM.
    #[error("{flag} {addr}: not permitted: choose a port from 1024 up, or give the process CAP_NET_BIND_SERVICE", flag = .side.flag())]
    Permission {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
    },
    /// EADDRNOTAVAIL.
    #[error("{flag} {addr}: this machine has no such address: choose one that `ip address` lists, or 0.0.0.0 for all", flag = .side.flag())]
    NotAvailable {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
    },
    /// EMFILE, ENFILE.
    #[error("{flag} {addr}: no descriptor left: raise the limit (`ulimit -n`, LimitNOFILE)", flag = .side.flag())]
    Descriptors {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
    },
    /// EAFNOSUPPORT.
    #[error("{flag} {addr}: this machine has that address family switched off: choose an IPv{other} address", flag = .side.flag(), other = if .addr.is_ipv6() { 4 } else { 6 })]
    Family {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
    },
    /// A path that cannot be listened on.
    #[error("{flag} unix:{path}: {advice}", flag = .side.flag(), path = .path.display())]
    Unix {
        /// Which listener.
        side: Side,
        /// The path asked for.
        path: PathBuf,
        /// What is wrong and what to do.
        advice: String,
    },
    /// Anything else.
    #[error("{flag} {addr}: cannot listen: {source}", flag = .side.flag())]
    Other {
        /// Which listener.
        side: Side,
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
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

/// A socket that listens, of either family that the broker serves.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket.
    Unix(UnixListener),
}

impl Listener {
    /// One that came with the process, made non-blocking.
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

    /// Where it listens.
    pub fn local(&self) -> io::Result<Local> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Local::Address),
            Listener::Unix(listener) => {
                let addr = listener.local_addr()?;
                Ok(Local::Path(addr.as_pathname().map(PathBuf::from).unwrap_or_default()))
            }
        }
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

/// Where a listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Over TCP.
    Address(SocketAddr),
    /// Through the file system.
    Path(PathBuf),
}

impl Local {
    /// Only from this machine, or from this container.
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

/// Where a socket that came with the process can be reached.
pub fn local_of(fd: &OwnedFd) -> io::Result<Local> {
    let addr = SockRef::from(fd).local_addr()?;
    match addr.as_socket() {
        Some(addr) => Ok(Local::Address(addr)),
        None if addr.is_unix() => Ok(Local::Path(addr.as_pathname().map(PathBuf::from).unwrap_or_default())),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Binds a non-blocking listener. Several sockets (one per core, or a predecessor's) may share its
/// address; with `exclusive` it is refused if somebody listens there already.
pub fn bind(side: Side, addr: SocketAddr, backlog: u32, exclusive: bool) -> Result<TcpListener, ListenError> {
    let bound = || -> io::Result<TcpListener> {
        if exclusive && addr.port() != 0 {
            // SO_REUSEPORT would join a stranger's listener without a word.
            in_time(|| socket(addr, false))?;
        }
        let socket = socket(addr, true)?;
        socket.listen(backlog.min(i32::MAX as u32) as i32)?;
        Ok(socket.into())
    };
    bound().map_err(|source| ListenError::new(side, addr, source))
}

/// How long an address may still be in use by a process that has just been killed: what it had under way on
/// io_uring the kernel ends in the background, its listeners with it.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);
const IN_USE_PAUSE: Duration = Duration::from_millis(10);

fn in_time<T>(mut bound: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match bound() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < IN_USE_PATIENCE => {
                thread::sleep(IN_USE_PAUSE);
            }
            bound => return bound,
        }
    }
}

fn socket(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Socket options of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Length of the accept queue of each listener; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// TCP_USER_TIMEOUT, in milliseconds; 0 leaves the kernel's.
    pub user_timeout_ms: u32,
    /// TCP_KEEPIDLE, in seconds.
    pub keepalive_idle_s: u32,
    /// TCP_KEEPINTVL, in seconds.
    pub keepalive_interval_s: u32,
    /// TCP_KEEPCNT.
    pub keepalive_count: u32,
}

impl TcpOptions {
    /// Sets what Linux hands down from a listener to the connections that it accepts, so that a new
    /// connection costs no system call for it. With `segment_bytes` their segments are limited too.
    pub fn hand_down(&self, listener: &TcpListener, segment_bytes: Option<u32>) -> io::Result<()> {
        let socket = SockRef::from(listener);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(self.keepalive_idle_s.into()))
            .with_interval(Duration::from_secs(self.keepalive_interval_s.into()))
            .with_retries(self.keepalive_count);
        socket.set_tcp_keepalive(&keepalive)?;
        if self.user_timeout_ms > 0 {
            tcp::set_user_timeout(listener.as_fd(), self.user_timeout_ms)?;
        }
        match segment_bytes {
            Some(bytes) => tcp::limit_segments(listener.as_fd(), bytes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn an_address_is_shared_only_on_purpose() {
        let first = bind(Side::Runner, any(), 8, true).expect("bound");
        let addr = first.local_addr().expect("bound");
        bind(Side::Runner, addr, 8, false).expect("a second on the same address");
        let error = bind(Side::Admin, addr, 8, true).expect_err("in use");
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_listener_that_is_just_going_is_waited_for() {
        let first = bind(Side::Runner, any(), 8, true).expect("bound");
        let addr = first.local_addr().expect("bound");
        let going = thread::spawn(move || {
            thread::sleep(10 * IN_USE_PAUSE);
            drop(first);
        });
        bind(Side::Runner, addr, 8, true).expect("free in time");
        going.join().expect("gone");
    }

    #[test]
    fn what_the_kernel_says_becomes_what_to_do() {
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
