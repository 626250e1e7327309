//! Sockets of the load: many connections from several loopback addresses.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// The most connections from one source address: fewer than the ephemeral ports, with room for TIME_WAIT.
pub const PER_SOURCE_MAX: usize = 20_000;

/// The source address of connection number `index` of a process whose addresses begin with 127.0.0.`first`.
pub fn source(first: u8, index: usize, sources: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, first + (index % sources) as u8)
}

/// Starts to connect. On loopback it is usually connected on return.
pub fn connect(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    if source != Ipv4Addr::LOCALHOST {
        bind_address_only(&socket)?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Whether all bytes were sent; `false` while connecting.
pub fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<bool> {
    let mut stream: &TcpStream = stream;
    match stream.write(bytes) {
        Ok(sent) if sent == bytes.len() => Ok(true),
        Ok(_) => Err(io::Error::other("a request did not fit the socket's buffer")),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Raises the limit of descriptors as far as possible. The hard limit needs root.
pub fn raise_descriptor_limit() -> u64 {
    let kernel_max = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if setrlimit(Resource::RLIMIT_NOFILE, kernel_max, kernel_max).is_ok() {
        return kernel_max;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    hard
}

/// Chooses the port at connect, when the target is known. Otherwise each port could serve one connection only.
fn bind_address_only(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` lives over the call and its size is passed.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
