//! The closed loop: 500 controllers and 50 supervisors, each as fast as its answers.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::process::{self, Foreign};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Measure;
use crate::load::{self, Controllers, Dispatched};
use crate::results::{Syscalls, Window};
use crate::running::{Place, Running};
use crate::servers::{Server, side_by_side};

/// The system calls to count. The page names frequent ones.
const NAMED: [&str; 22] = [
    "accept4",
    "accept",
    "close",
    "shutdown",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_ctl",
    "getsockopt",
    "setsockopt",
    "ioctl",
    "futex",
    "io_uring_enter",
];

impl Measure {
    /// Round robin over the servers, so that a drift of the machine affects all of them.
    pub(super) fn windows(&mut self) -> Result<()> {
        for round in 1..=self.plan.rounds {
            for server in side_by_side(&self.servers) {
                let window = self.quiet(Window::disturbance, |m| m.window(&server))?;
                println!(
                    "window {round}/{}  {:<24} {:8.2} us/match  {:7.0} warm/s  {} cold  foreign {:.1} %",
                    self.plan.rounds,
                    server.name,
                    window.cpu_us_per_match,
                    window.dispatched.warm as f64 * 1e6 / window.dispatched.duration_us as f64,
                    window.dispatched.cold,
                    window.foreign_percent
                );
                self.results.windows.entry(server.name.to_owned()).or_default().push(window);
            }
        }
        Ok(())
    }

    fn window(&self, server: &Server) -> Result<Window> {
        let (running, _controllers) = self.warm(server)?;
        let (foreign, cpu_ns) = (Foreign::now(), process::cpu_ns(running.pid()));
        let dispatched = load::dispatch(running.addr, self.plan.window_secs)?;
        let (foreign_after, cpu_ns_after) = (Foreign::now(), process::cpu_ns(running.pid()));
        Ok(Window {
            cpu_us_per_match: per_match((cpu_ns_after - cpu_ns) as f64 / 1e3, &dispatched, server)?,
            dispatched,
            listening_ms: running.listening_ms,
            foreign_percent: foreign_after.percent_since(foreign),
        })
    }

    /// Starts a server with 500 polls and warms it up.
    fn warm(&self, server: &Server) -> Result<(Running, Controllers)> {
        let running = Running::start(server, Place::SERVER)?;
        let controllers = Controllers::start(running.addr, server.closes)?;
        std::thread::sleep(Duration::from_millis(300));
        process::wait_idle(running.pid(), Duration::from_secs(3));
        if self.plan.warms_up {
            load::dispatch(running.addr, server.warmup_secs)?;
        }
        Ok((running, controllers))
    }

    /// In a separate run, since counting costs time.
    pub(super) fn syscalls(&mut self) -> Result<()> {
        if !Counter::works() {
            eprintln!("perf cannot count system calls here: left out");
            return Ok(());
        }
        for server in self.servers.clone() {
            let (running, _controllers) = self.warm(&server)?;
            let counter = Counter::start(running.pid())?;
            let dispatched = load::dispatch(running.addr, self.plan.window_secs)?;
            let mut counts = counter.stop()?;
            let Some(at) = counts.iter().position(|(name, _)| name == "all") else {
                bail!("perf counted nothing")
            };
            let (_, all) = counts.remove(at);
            counts.sort_by(|a, b| b.1.total_cmp(&a.1));
            let by_name = counts.into_iter().map(|(name, count)| (name, count / dispatched.warm as f64));
            let syscalls = Syscalls {
                per_match: per_match(all, &dispatched, &server)?,
                by_name: by_name.filter(|(_, per_match)| *per_match >= 0.01).take(6).collect(),
            };
            println!(
                "syscalls    {:<24} {:8.2} per match  {:.2?}",
                server.name, syscalls.per_match, syscalls.by_name
            );
            self.results.syscalls.insert(server.name.to_owned(), syscalls);
        }
        Ok(())
    }
}

fn per_match(total: f64, dispatched: &Dispatched, server: &Server) -> Result<f64> {
    if dispatched.warm == 0 {
        bail!("{}: no warm dispatch: {dispatched:?}", server.name);
    }
    Ok(total / dispatched.warm as f64)
}

/// perf, counting the system calls of one process.
struct Counter(Child);

impl Counter {
    fn works() -> bool {
        let status = Command::new("perf")
            .args(["stat", "-e", "raw_syscalls:sys_enter", "--", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn start(pid: u32) -> Result<Self> {
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x;", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
        for name in NAMED {
            perf.args(["-e", &format!("syscalls:sys_enter_{name}")]);
        }
        let child = perf.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start perf")?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Counter(child))
    }

    fn stop(self) -> Result<Vec<(String, f64)>> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT)?;
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(';').collect();
            let (count, event) = (fields.first()?.parse::<f64>().ok()?, fields.get(2)?);
            let name =
                if *event == "raw_syscalls:sys_enter" { "all" } else { event.split("sys_enter_").nth(1)? };
            Some((name.to_owned(), count))
        };
        Ok(text.lines().filter_map(row).collect())
    }
}
