//! Anonymous network namespaces for tests.
//!
//! A namespace exists as long as a descriptor or a process holds it. It has no name that could clash, and
//! it ends with the test even if the test is killed.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A network: the machine's own, or a namespace.
#[derive(Clone, Default)]
pub struct Net(Option<Arc<File>>);

impl Net {
    /// The network that the test runs in.
    pub fn host() -> Net {
        Net(None)
    }

    /// A namespace with a loopback device only.
    pub fn new() -> Net {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: needs root (CAP_SYS_ADMIN)");
            ip("link set lo up");
            File::open("/proc/thread-self/ns/net").expect("the new namespace")
        });
        Net(Some(Arc::new(made.join().expect("a network namespace"))))
    }

    /// Runs `work` in this network. Sockets and processes created there stay in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Some(file) = &self.0 else { return work() };
        let entered = move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("to enter a network namespace");
            work()
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `ip` with these arguments in this network.
    pub fn ip(&self, words: &str) {
        self.enter(|| ip(words));
    }

    /// Connects from this network.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.enter(|| TcpStream::connect_timeout(&addr, Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects two networks with a pair of veth devices of these names.
    pub fn cable(&self, plug: &str, other: &Net, other_plug: &str) {
        let file = other.0.as_ref().expect("a namespace");
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.ip(&format!("link add {plug} type veth peer name {other_plug} netns {path}"));
        self.ip(&format!("link set {plug} up"));
        other.ip(&format!("link set {other_plug} up"));
    }
}

fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("ip: install iproute2");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}
