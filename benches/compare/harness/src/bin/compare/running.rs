//! A server as a process: pinned, timed until its first connection, ended by its pid.

use std::cell::Cell;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::servers::{Kind, Server};

const LOGS: &str = "target/logs";
/// Below the ephemeral ports. Each start uses a new port, so that old connections do not matter.
const FIRST_PORT: u16 = 2000;
const PORTS: u16 = 4000;

thread_local! {
    static NEXT_PORT: Cell<u16> = const { Cell::new(FIRST_PORT) };
}

/// The core and the priority of a process.
#[derive(Clone, Copy)]
pub struct Place {
    pub cpus: &'static [usize],
    pub nice: i32,
    /// Real-time priority; see `kernel`.
    pub realtime: bool,
}

impl Place {
    pub const SERVER: Place = Place { cpus: &[0], nice: 0, realtime: false };
    pub const LOAD: Place = Place { cpus: &[1], nice: 0, realtime: false };
    pub const BOTH: Place = Place { cpus: &[0, 1], nice: 0, realtime: false };

    /// Makes the command's process run at this place.
    pub fn apply(self, command: &mut Command) {
        let mut set = CpuSet::new();
        for &cpu in self.cpus {
            let _ = set.set(cpu);
        }
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                sched_setaffinity(Pid::from_raw(0), &set)?;
                // Priority needs root. Without it the load is only less even.
                libc::setpriority(libc::PRIO_PROCESS, 0, self.nice);
                let param = libc::sched_param { sched_priority: 1 };
                if self.realtime && libc::sched_setscheduler(0, libc::SCHED_RR, &param) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The process ends with the harness.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
    }
}

pub struct Running {
    child: Child,
    pub addr: SocketAddrV4,
    pub listening_ms: f64,
}

impl Running {
    pub fn start(server: &Server, place: Place) -> Result<Self> {
        let port = NEXT_PORT.replace(FIRST_PORT + (NEXT_PORT.get() - FIRST_PORT + 2) % PORTS);
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let mut command = Command::new(&server.program);
        command.args(&server.args);
        if server.kind == Kind::Ours {
            let cpus: Vec<String> = place.cpus.iter().map(usize::to_string).collect();
            match server.workers {
                1 => command.args(["--cpus", &cpus.join(",")]),
                workers => command.args(["--workers", &workers.to_string()]),
            };
            command.args(["--listen", &addr.to_string()]);
            command.args(["--admin-listen", &format!("127.0.0.1:{}", port + 1)]);
        } else {
            command.args(["--port", &port.to_string()]);
        }
        std::fs::create_dir_all(LOGS)?;
        let log = File::create(format!("{LOGS}/{}.log", server.name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        place.apply(&mut command);

        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", server.name))?;
        let mut running = Running { child, addr, listening_ms: 0.0 };
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = running.child.try_wait()? {
                bail!("{} ended at its start ({status}); see {LOGS}/{}.log", server.name, server.name);
            }
            if started.elapsed() > Duration::from_secs(10) {
                bail!("{} does not listen", server.name);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        running.listening_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(running)
    }

    /// The run omits a server that cannot be started here (a missing runtime, an engine that the kernel or the build
    /// does not have).
    pub fn is_possible(server: &Server) -> bool {
        let started = Running::start(server, Place::SERVER);
        if let Err(error) = &started {
            eprintln!("left out: {error:#}");
        }
        started.is_ok()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Kills the server: a graceful shutdown would take as long as its polls.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
