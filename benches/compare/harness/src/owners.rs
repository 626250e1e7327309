//! Which worker of a server owns which connection, seen from outside: each epoll worker has its own epoll instance, and
//! the kernel lists its registered sockets (proc_pid_fdinfo(5)), in every descriptor table.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;

/// The worker's number for each connection, by the client's port.
///
/// # Errors
/// A connection is at two workers, or none is found: the server does not use epoll.
pub fn workers_of(pid: u32, server_port: u16) -> io::Result<HashMap<u16, u32>> {
    let ports = client_ports(server_port)?;
    let mut owners = HashMap::new();
    for (inodes, worker) in pollers(Path::new(&format!("/proc/{pid}")))?.iter().zip(0..) {
        for port in inodes.iter().filter_map(|inode| ports.get(inode)) {
            if owners.insert(*port, worker).is_some() {
                return Err(io::Error::other("two of the server's workers have one connection"));
            }
        }
    }
    match owners.is_empty() {
        true => Err(io::Error::other("no poller of the server's shows a connection: is it on epoll?")),
        false => Ok(owners),
    }
}

/// The inodes registered with each epoll instance of a process. An instance may have several descriptors.
fn pollers(process: &Path) -> io::Result<BTreeSet<Vec<u64>>> {
    const POLLER: &str = "anon_inode:[eventpoll]";
    let mut pollers = BTreeSet::new();
    for descriptor in fs::read_dir(process.join("fd"))?.flatten() {
        if fs::read_link(descriptor.path()).is_ok_and(|link| link == Path::new(POLLER)) {
            let registered = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))?;
            pollers.insert(registered.lines().filter_map(inode).collect());
        }
    }
    Ok(pollers)
}

/// `tfd:  9 events:  2019 data:  2 pos:0 ino:8f9c sdev:9`
fn inode(line: &str) -> Option<u64> {
    let field = line.strip_prefix("tfd:")?.split_whitespace().find_map(|field| field.strip_prefix("ino:"))?;
    u64::from_str_radix(field, 16).ok()
}

/// The client's port of each server-side socket, by its inode.
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
