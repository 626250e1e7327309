//! The load as processes: wrk for the closed loop, the tools of this workspace otherwise.

use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use harness::report::OpenLoop;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::running::Place;

const CONTROLLERS: u32 = 500;
const SUPERVISORS: u32 = 50;
/// Both sides share a core. If every poll uses a new connection, controllers have priority. Otherwise the supervisors
/// would use up the core with cold dispatches.
const RECONNECTING: Place = Place { nice: -20, ..Place::LOAD };

/// The supervisors' figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dispatched {
    #[serde(rename = "hits")]
    pub warm: u64,
    #[serde(rename = "misses")]
    pub cold: u64,
    pub duration_us: u64,
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub errors: u64,
}

/// 500 controllers that poll until this is dropped.
pub struct Controllers(Child);

impl Controllers {
    pub fn start(addr: SocketAddrV4, reconnect: bool) -> Result<Self> {
        let mut wrk = wrk(CONTROLLERS, 600, "load/controllers.lua", addr);
        let place = if reconnect { RECONNECTING } else { Place::LOAD };
        place.apply(&mut wrk);
        Ok(Controllers(wrk.stdout(Stdio::null()).spawn().context("cannot start wrk")?))
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Runs 50 supervisors for `secs` seconds.
pub fn dispatch(addr: SocketAddrV4, secs: u64) -> Result<Dispatched> {
    let mut wrk = wrk(SUPERVISORS, secs, "load/supervisors.lua", addr);
    wrk.args(["--", "load/dispatch.json"]);
    Place::LOAD.apply(&mut wrk);
    last_line(wrk)
}

fn wrk(connections: u32, secs: u64, script: &str, addr: SocketAddrV4) -> Command {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{secs}"), "--timeout", "60s", "--latency"]);
    wrk.args(["-s", script, &format!("http://{addr}/warm-start")]);
    wrk
}

pub fn open_loop(addr: SocketAddrV4, pid: u32, place: Place, args: &[String]) -> Result<OpenLoop> {
    let mut tool = tool("openloop", addr);
    tool.args(["--server-pid", &pid.to_string()]).args(args);
    place.apply(&mut tool);
    last_line(tool)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aborted {
    pub aborted: u64,
    pub seconds: f64,
}

pub fn abort(addr: SocketAddrV4, count: u64, rate: u32, secs_max: u64) -> Result<Aborted> {
    let mut tool = tool("aborts", addr);
    tool.args([
        "--count",
        &count.to_string(),
        "--rate",
        &rate.to_string(),
        "--secs-max",
        &secs_max.to_string(),
    ]);
    Place::LOAD.apply(&mut tool);
    last_line(tool)
}

pub fn tool(name: &str, addr: SocketAddrV4) -> Command {
    let mut tool = Command::new(format!("target/release/{name}"));
    tool.args(["--target", &addr.to_string()]);
    tool
}

/// Runs the command and parses the last line of its output.
fn last_line<T: for<'a> Deserialize<'a>>(mut command: Command) -> Result<T> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line)
        .with_context(|| format!("{command:?}: {line} {}", String::from_utf8_lossy(&output.stderr)))
}
