//! Which of a server's workers owns which connection, told from outside: each worker has an epoll instance, and
//! the kernel lists what is registered there.

use std::collections::HashMap;
use std::fs;
use std::io;

/// Of each connection, by its client's port, the worker (as the number of its epoll descriptor).
pub fn workers_of(pid: u32, server_port: u16) -> io::Result<HashMap<u16, u32>> {
    let ports = client_ports(server_port)?;
    let mut socket_ports = HashMap::new();
    let mut epolls = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        if link.contains("[eventpoll]") {
            epolls.push(fd);
        }
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        if let Some(&port) = inode.and_then(|inode: u64| ports.get(&inode)) {
            socket_ports.insert(fd, port);
        }
    }
    let mut owners = HashMap::new();
    for epoll in epolls {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}"))?;
        let registered = info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
        for fd in registered.filter_map(|fd| fd.parse::<u32>().ok()) {
            if let Some(&port) = socket_ports.get(&fd) {
                owners.insert(port, epoll);
            }
        }
    }
    Ok(owners)
}

/// The client's port of each connection on the server's side, by the socket's inode.
fn client_ports(server_port: u16) -> io::Result<HashMap<u64, u16>> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/self/net/tcp")?;
    let port = |address: &str| u16::from_str_radix(address.split(':').nth(1)?, 16).ok();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, state, inode) = (fields.get(1)?, fields.get(2)?, fields.get(3)?, fields.get(9)?);
        let is_ours = port(local)? == server_port && *state == ESTABLISHED;
        is_ours.then_some((inode.parse().ok()?, port(remote)?))
    };
    Ok(table.lines().skip(1).filter_map(row).collect())
}
