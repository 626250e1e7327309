//! The service manager's watchdog, with a worker that hangs because ptrace(2) stops its thread.

use super::launch::{Serving, clean};
use super::product::BINARY;
use super::support::PATIENCE;
use super::support::folder::Folder;
use super::units::unit;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Short, for a short test. The broker reports a stall only after 3 s.
const TIMEOUT: Duration = Duration::from_secs(2);

pub fn no_ping_while_a_worker_hangs() {
    assert!(super::product::seconds(unit("pilotlight.service").one("WatchdogSec")) >= 6);
    let folder = Folder::new("watchdog");
    let path = folder.path("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let mut command = clean(BINARY);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workers", "2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", TIMEOUT.as_micros().to_string());
    let serving = Serving::start(command);

    // The broker pings twice within the watchdog's time.
    assert_eq!(message(&manager, TIMEOUT).as_deref(), Some("READY=1\n"));
    for _ in 0..4 {
        assert_eq!(message(&manager, TIMEOUT).as_deref(), Some("WATCHDOG=1\n"));
    }
    let worker = thread_of(serving.pid(), "worker-1");
    ptrace::seize(worker, ptrace::Options::empty()).expect("seized");
    ptrace::interrupt(worker).expect("interrupted");
    waitpid(worker, Some(WaitPidFlag::__WALL)).expect("stopped");
    // The pings end although the other worker and the control thread still run: /healthz answers.
    let stopped = Instant::now();
    while message(&manager, TIMEOUT).is_some() {
        assert!(stopped.elapsed() < PATIENCE, "the broker pings while a worker hangs");
    }
    assert_eq!(message(&manager, TIMEOUT), None);
    assert!([200, 503].contains(&serving.get("/healthz")));
    ptrace::detach(worker, None).expect("continued");
    assert_eq!(message(&manager, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
}

/// The next message to the service manager, if one arrives in time.
fn message(manager: &UnixDatagram, within: Duration) -> Option<String> {
    manager.set_read_timeout(Some(within)).expect("set");
    let mut message = [0; 256];
    let length = manager.recv(&mut message).ok()?;
    Some(String::from_utf8_lossy(&message[..length]).into_owned())
}

fn thread_of(process: u32, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .expect("/proc")
        .map(|task| task.expect("a task").path());
    let named = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.into_iter().find(named).unwrap_or_else(|| panic!("no thread {name}"));
    let id = task.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok());
    Pid::from_raw(id.expect("a number"))
}
