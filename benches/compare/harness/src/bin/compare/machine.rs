//! The machine: a private network namespace for the run, and the versions for the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use harness::socket;
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

/// Raises the limit of descriptors and, as root, moves to a private loopback with enough ports. Returns the limit of
/// descriptors per process.
pub fn isolate() -> Result<u64> {
    let descriptors = socket::raise_descriptor_limit();
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("not root: runs in the machine's own network, with the ports that it has");
        return Ok(descriptors);
    }
    raise_loopback()?;
    let sysctls = [
        ("net/ipv4/ip_local_port_range", "10000 65535"),
        ("net/core/somaxconn", "4096"),
        ("net/ipv4/tcp_tw_reuse", "2"),
    ];
    for (name, value) in sysctls {
        if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
            eprintln!("cannot set {name}: {error}");
        }
    }
    Ok(descriptors)
}

fn raise_loopback() -> Result<()> {
    // SAFETY: `request` is plain old data whose name ends in a zero byte, and lives over both calls; the
    // descriptor is closed here and used nowhere else.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(fd, libc::SIOCSIFFLAGS, &request);
        let error = std::io::Error::last_os_error();
        libc::close(fd);
        if done < 0 { Err(error.into()) } else { Ok(()) }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    /// The limit of descriptors per process.
    pub descriptors: u64,
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    pub fn describe(pilotlight: Option<&Path>, descriptors: u64) -> Self {
        let mut versions = BTreeMap::new();
        let mut version = |name: &str, program: &str, args: &[&str]| {
            if let Some(line) = first_line(program, args) {
                versions.insert(name.to_owned(), line.trim_start_matches(name).trim_start().to_owned());
            }
        };
        version("node", "node_modules/node-22/bin/node", &["--version"]);
        version("bun", "node_modules/@oven/bun-linux-x64/bin/bun", &["--version"]);
        version("rustc", "rustc", &["--version"]);
        version("wrk", "sh", &["-c", "wrk -v 2>&1 | grep -o '^wrk [^ ]*'"]);
        if let Some(pilotlight) = pilotlight {
            version("pilotlight", &pilotlight.to_string_lossy(), &["--version"]);
        }
        version("pilotlight's commit", "git", &["describe", "--always", "--dirty", "--exclude=*"]);
        for (name, version) in locked_versions(&["axum", "hyper", "tokio", "io-uring"]) {
            versions.insert(name, version);
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value =
            |name: &str| Some(cpuinfo.lines().find(|line| line.starts_with(name))?.split_once(':')?.1.trim());
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        Machine {
            date: first_line("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu: value("model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.div_ceil(1024 * 1024),
            descriptors,
            versions,
        }
    }
}

fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

fn locked_versions(names: &[&str]) -> Vec<(String, String)> {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let version_of = |name: &&str| {
        let at = lock.find(&format!("name = \"{name}\"\n"))?;
        let version = lock[at..].lines().nth(1)?.split('"').nth(1)?;
        Some(((*name).to_owned(), version.to_owned()))
    };
    names.iter().filter_map(version_of).collect()
}
