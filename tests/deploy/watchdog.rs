//! The service manager's watchdog, with a worker that really hangs: its thread is stopped by ptrace(2).

use super::launch::{Serving, clean};
use super::product::BINARY;
use super::support::PATIENCE;
use super::units::unit;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Short, so that the test is; silence of less than 3 s is no silence.
const TIMEOUT: Duration = Duration::from_secs(2);

pub fn silent_while_a_core_hangs() {
    assert!(super::product::seconds(unit("pilotlight.service").one("WatchdogSec")) >= 6);
    let path = std::env::temp_dir().join(format!("pilotlight-watchdog-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).expect("bound");
    let mut command = clean(BINARY);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workers", "2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", TIMEOUT.as_micros().to_string());
    let serving = Serving::start(command);

    // Twice as often as it must be.
    assert_eq!(hear(&manager, TIMEOUT).as_deref(), Some("READY=1\n"));
    for _ in 0..4 {
        assert_eq!(hear(&manager, TIMEOUT).as_deref(), Some("WATCHDOG=1\n"));
    }
    let worker = thread_of(serving.pid(), "worker-1");
    ptrace::seize(worker, ptrace::Options::empty()).expect("seized");
    ptrace::interrupt(worker).expect("interrupted");
    waitpid(worker, Some(WaitPidFlag::__WALL)).expect("stopped");
    // The other worker and the control thread are well: /healthz answers. The pings end all the same.
    let stopped = Instant::now();
    while hear(&manager, TIMEOUT).is_some() {
        assert!(stopped.elapsed() < PATIENCE, "a worker hangs, and the watchdog is pinged");
    }
    assert_eq!(hear(&manager, TIMEOUT), None);
    assert!([200, 503].contains(&serving.get("/healthz")));
    ptrace::detach(worker, None).expect("continued");
    assert_eq!(hear(&manager, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
    fs::remove_file(&path).expect("removed");
}

/// What the service manager is told next, if anything.
fn hear(manager: &UnixDatagram, within: Duration) -> Option<String> {
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
