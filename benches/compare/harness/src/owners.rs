//! Which of a server's workers owns which connection, told from outside: each worker has a table of descriptors of
//! its own, which the kernel lists under its thread.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

const WORKER_THREAD: &str = "worker-";

/// Of each connection, by its client's port, the worker's number.
///
/// # Errors
/// A connection is in two workers' tables: they share one, which tells nothing.
pub fn workers_of(pid: u32, server_port: u16) -> io::Result<HashMap<u16, u32>> {
    let ports = client_ports(server_port)?;
    let mut owners = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let name = fs::read_to_string(thread.path().join("comm"))?;
        let number = name.trim().strip_prefix(WORKER_THREAD).and_then(|number| number.parse().ok());
        let Some(worker) = number else { continue };
        for port in sockets(&thread.path())?.into_iter().filter_map(|inode| ports.get(&inode)) {
            if owners.insert(*port, worker).is_some() {
                return Err(io::Error::other("the server's workers have one table of descriptors"));
            }
        }
    }
    Ok(owners)
}

/// The inodes of the sockets in a thread's table.
fn sockets(thread: &Path) -> io::Result<Vec<u64>> {
    let links =
        fs::read_dir(thread.join("fd"))?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: &Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Ok(links.filter_map(|link| inode(&link)).collect())
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
