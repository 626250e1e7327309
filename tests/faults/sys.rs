//! A system call that no crate here wraps.
#![allow(unsafe_code)]

use nix::libc;
use std::io;
use std::os::fd::RawFd;

/// `struct ifreq`, as far as TUNSETIFF uses it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    _rest: [u8; 22],
}

/// Makes the open /dev/net/tun the TUN device `name` of the calling thread's network.
pub fn attach_tun(fd: RawFd, name: &str) -> io::Result<()> {
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, _rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one ifreq, 40 bytes, which `request` is.
    let done = unsafe { libc::ioctl(fd, libc::TUNSETIFF, &mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
