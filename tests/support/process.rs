//! Broker processes: a clean environment, the listeners in the log, processor time and the end.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Removes all settings of a broker from the command's environment.
pub fn clear_settings(command: &mut Command) {
    const PREFIXES: [&str; 3] = ["PILOTLIGHT_", "LISTEN_", "WORKLOAD_TOKEN_"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if PREFIXES.iter().any(|prefix| text.starts_with(prefix)) || text == "NOTIFY_SOCKET" {
            command.env_remove(&name);
        }
    }
}

/// The side and the address in a text log line about a listener.
pub fn listener(line: &str) -> Option<(&str, SocketAddr)> {
    let (side, addr) = line.split_once("listening side=")?.1.split_once(" addr=")?;
    Some((side, addr.trim().parse().ok()?))
}

/// Processor time used so far, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Waits for the process to end. `None`: it still runs.
pub fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + within;
    loop {
        let status = child.try_wait().expect("to wait");
        if status.is_some() || Instant::now() >= until {
            return status;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
