//! How many sockets of all processes listen on a port.
//!
//! sock_diag(7) makes the kernel walk its listeners only. /proc/net/tcp lists every connection of the host: with
//! ten thousand of them, that takes a large part of a second.

use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The length of a message's header. It begins with the message's length, then its type.
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
const TCP_LISTEN: u8 = 10;
/// The kernel answers immediately or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The kernel fills at most this much at a time.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// How many sockets listen on the address's port, in its address family.
pub fn listening_sockets(addr: SocketAddr) -> usize {
    // A kernel without INET_DIAG still has /proc.
    count_by_diag(addr).unwrap_or_else(|_| count_by_proc(addr))
}

fn count_by_diag(addr: SocketAddr) -> io::Result<usize> {
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.send(&request(addr))?;
    let mut count = 0;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = (&socket).read(&mut buffer)?;
        let (more, done) = count_answers(&buffer[..length], addr.port())?;
        count += more;
        if done {
            return Ok(count);
        }
    }
}

/// Asks for a dump of the sockets that listen on `addr`'s port.
fn request(addr: SocketAddr) -> [u8; HEADER_BYTES + REQUEST_BYTES] {
    let mut bytes = [0; HEADER_BYTES + REQUEST_BYTES];
    let length = bytes.len() as u32;
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[16] = family as u8;
    bytes[17] = libc::IPPROTO_TCP as u8;
    bytes[20..24].copy_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    bytes[24..26].copy_from_slice(&addr.port().to_be_bytes());
    bytes
}

/// The number of sockets in one datagram that listen on `port`, and whether it was the last datagram.
fn count_answers(mut bytes: &[u8], port: u16) -> io::Result<(usize, bool)> {
    let mut count = 0;
    while let Some(header) = bytes.get(..HEADER_BYTES) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let message = bytes.get(HEADER_BYTES..length).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_DONE => return Ok((count, true)),
            NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
            _ => {
                // `struct inet_diag_msg`: family, state, timer, retransmissions, port, …
                let about = message.get(..6).ok_or(io::ErrorKind::InvalidData)?;
                let listens = about[1] == TCP_LISTEN && u16::from_be_bytes([about[4], about[5]]) == port;
                count += usize::from(listens);
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok((count, false))
}

/// Counts in /proc/net/tcp (proc_net_tcp(5)).
fn count_by_proc(addr: SocketAddr) -> usize {
    let table = if addr.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    fs::read_to_string(table).map_or(0, |table| count_lines(&table, addr.port()))
}

fn count_lines(table: &str, port: u16) -> usize {
    const LISTEN: &str = "0A";
    let on_port = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|address| address.rsplit_once(':'));
        let state = fields.nth(1);
        state == Some(LISTEN) && local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
    };
    table.lines().filter(on_port).count()
}

#[cfg(test)]
mod tests {
    use super::super::{Side, bind};
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn only_listening_sockets_on_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:1F68 00000000:0000 0A 00000000:00000000\n\
             1: 0100007F:1F68 00000000:0000 0A 00000000:00000000\n\
             2: 0100007F:1F68 0100007F:D2F0 01 00000000:00000000\n\
             3: 0100007F:1F69 00000000:0000 0A 00000000:00000000\n";
        assert_eq!(count_lines(table, 8040), 2);
    }

    #[test]
    fn diag_and_proc_agree() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let first = bind(Side::Runner, any.parse().unwrap(), 8, true).unwrap();
            let addr = first.local_addr().unwrap();
            let _connection = TcpStream::connect(addr).unwrap();
            assert_eq!((count_by_diag(addr).unwrap(), count_by_proc(addr)), (1, 1), "{any}");
            let second = bind(Side::Runner, addr, 8, false).unwrap();
            assert_eq!((count_by_diag(addr).unwrap(), count_by_proc(addr)), (2, 2), "{any}");
            drop((first, second));
            assert_eq!((count_by_diag(addr).unwrap(), count_by_proc(addr)), (0, 0), "{any}");
        }
    }
}
