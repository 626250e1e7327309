//! The broker as its own process.

use super::Mode;
use super::http::{Outcome, PATIENCE, Poller, Run, Supervisor, VERSION, read_response};
use super::net::Net;
use super::process::Runner;
use super::support::binary::{binary, engine};
use super::support::{lock, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const LOG_LINES_MAX: usize = 200;
const STATUS_AGE_MAX: Duration = Duration::from_millis(101);

/// The broker checks for ACKs from the first event on. It may then see a reset before the ACK that came
/// first.
pub fn checks_acks() -> bool {
    std::env::var_os("PILOTLIGHT_ACK_CHECK_FROM_EVENTS").is_some()
}

/// The broker sends everything through the ring. There it sees an ACK before a reset that follows.
pub fn through_the_ring() -> bool {
    on_io_uring() && std::env::var_os("PILOTLIGHT_RING_FROM_EVENTS").is_some()
}

/// The engine under test is io_uring.
pub fn on_io_uring() -> bool {
    engine() == "io-uring"
}

/// The settings of a broker to start.
pub struct Builder {
    mode: Mode,
    workers: usize,
    net: Net,
    listen: IpAddr,
    port: u16,
    args: Vec<String>,
    listener: Option<OwnedFd>,
    descriptors: Option<usize>,
}

impl Builder {
    /// One worker on free loopback ports of the test's own network.
    pub fn new(mode: Mode) -> Builder {
        Builder {
            mode,
            workers: 1,
            net: Net::host(),
            listen: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            args: Vec::new(),
            listener: None,
            descriptors: None,
        }
    }

    pub fn workers(mut self, count: usize) -> Builder {
        self.workers = count;
        self
    }

    /// In another network, on all its addresses. Clients connect to `seen_as`.
    pub fn on(mut self, net: &Net, seen_as: impl Into<IpAddr>) -> Builder {
        self.net = net.clone();
        self.listen = seen_as.into();
        self
    }

    pub fn port(mut self, port: u16) -> Builder {
        self.port = port;
        self
    }

    /// Adds flags.
    pub fn args(mut self, words: &str) -> Builder {
        self.args.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Passes a listening socket as systemd does.
    pub fn activated(mut self, listener: std::net::TcpListener) -> Builder {
        self.listener = Some(listener.into());
        self
    }

    /// Limits the process to `count` open files.
    pub fn descriptors(mut self, count: usize) -> Builder {
        self.descriptors = Some(count);
        self
    }

    /// Starts the broker and waits until it serves.
    pub fn start(mut self) -> Broker {
        let listener = self.listener.take();
        let mut command = self.command(listener.is_some());
        command.args(["--engine", &engine()]);
        command.stdin(listener.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.net.enter(|| command.spawn()).expect("the broker starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = VecDeque::new();
        let (mut runner, mut admin, mut dispatch) = (None, None, None);
        let apart = self.args.iter().any(|arg| arg == "--dispatch-listen");
        let mut serves = false;
        while !serves || runner.is_none() || admin.is_none() || (apart && dispatch.is_none()) {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("UTF-8");
            assert!(count > 0, "the broker ended: {log:?}");
            if let Some((side, addr)) = listening(&line) {
                match side.as_str() {
                    "runner" => runner = Some(addr),
                    "admin" => admin = Some(addr),
                    "dispatch" => dispatch = Some(addr),
                    _ => {}
                }
            }
            serves |= line.contains(r#""message":"serving""#);
            log.push_back(line);
        }
        let (Some(mut runner), Some(admin)) = (runner, admin) else { unreachable!() };
        runner.set_ip(self.listen);
        let log = Arc::new(Mutex::new(log));
        thread::spawn({
            let log = log.clone();
            move || follow(stderr, &log)
        });
        Broker {
            child: Mutex::new(child),
            net: self.net,
            runner,
            dispatch: dispatch.unwrap_or(runner),
            admin,
            workers: self.workers,
            log,
            probes: AtomicUsize::new(0),
            asked: Mutex::new(None),
        }
    }

    fn command(&self, activated: bool) -> Command {
        let listen = match (self.listen.is_loopback(), self.port) {
            (true, port) => SocketAddr::new(self.listen, port),
            (false, port) => SocketAddr::from(([0, 0, 0, 0], port)),
        };
        let mut before = String::new();
        if let Some(count) = self.descriptors {
            before += &format!("ulimit -n {count}; ");
        }
        if activated {
            before += "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; ";
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{before}exec \"$0\" \"$@\"")).arg(binary());
        process::clear_settings(&mut command);
        command.args(["serve", "--log-format", "json", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--listen", &listen.to_string(), "--confirm", self.mode.name()]);
        if !self.listen.is_loopback() {
            // The network contains only the test's processes.
            command.arg("--insecure-shared-dispatch");
        }
        command.args(["--workers", &self.workers.to_string()]).args(&self.args);
        for (variable, flag) in [
            ("PILOTLIGHT_ACK_CHECK_FROM_EVENTS", "--ack-check-from-events"),
            ("PILOTLIGHT_RING_FROM_EVENTS", "--ring-from-events"),
        ] {
            if let Ok(events) = std::env::var(variable) {
                command.args([flag, &events]);
            }
        }
        command
    }
}

/// The side and the address in a log line about a listener.
fn listening(line: &str) -> Option<(String, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let side = fields.get("side")?.as_str()?.to_owned();
    Some((side, fields.get("addr")?.as_str()?.parse().ok()?))
}

fn follow(mut stderr: BufReader<ChildStderr>, log: &Mutex<VecDeque<String>>) {
    let mut line = String::new();
    while stderr.read_line(&mut line).is_ok_and(|count| count > 0) {
        let mut log = lock(log);
        log.push_back(std::mem::take(&mut line));
        if log.len() > LOG_LINES_MAX {
            log.pop_front();
        }
    }
}

/// A running broker; killed when dropped.
pub struct Broker {
    child: Mutex<Child>,
    pub net: Net,
    /// The address for runners.
    pub runner: SocketAddr,
    /// The address for supervisors.
    dispatch: SocketAddr,
    admin: SocketAddr,
    workers: usize,
    log: Arc<Mutex<VecDeque<String>>>,
    probes: AtomicUsize,
    asked: Mutex<Option<Instant>>,
}

impl Broker {
    /// Connects from the broker's network.
    pub fn connect(&self) -> TcpStream {
        self.net.connect(self.runner).expect("to connect")
    }

    /// A supervisor in the broker's network.
    pub fn supervisor(&self) -> Supervisor {
        Supervisor::on(self.net.connect(self.dispatch).expect("to connect"))
    }

    /// A supervisor with a connection that the broker has already received from, as it has from the runners'. On
    /// a new connection io_uring may complete the dispatch before it reports a runner's FIN that arrived earlier.
    /// That is allowed: `write` only asks for bytes in the broker's kernel.
    pub fn used_supervisor(&self) -> Supervisor {
        let mut supervisor = self.supervisor();
        assert_eq!(supervisor.dispatch(&Run::new("deployment_without_runner")).outcome, Outcome::False);
        supervisor
    }

    /// Opens a poll from `net` and waits until it is held.
    pub fn poll_from(&self, net: &Net, deployment: &str) -> Poller {
        let before = self.waiting(deployment);
        let poller = Poller::on(net.connect(self.runner).expect("to connect"), deployment);
        self.wait_for_polls(deployment, before + 1);
        poller
    }

    /// Opens a poll from the broker's network and waits until it is held.
    pub fn poll(&self, deployment: &str) -> Poller {
        self.poll_from(&self.net, deployment)
    }

    /// Starts a runner process that polls, and waits until its poll is held. After its run has arrived, the runner is
    /// busy for `busy` before it reads the run.
    pub fn start_runner(&self, deployment: &str, busy: Duration) -> Runner {
        let before = self.waiting(deployment);
        let runner = Runner::start(&self.net, self.runner, deployment, busy);
        self.wait_for_polls(deployment, before + 1);
        runner
    }

    /// A supervisor whose connection is at another worker than the only poll of `deployment`. With one worker it is
    /// any supervisor. Its connection has already carried a dispatch.
    pub fn supervisor_elsewhere(&self, deployment: &str) -> Supervisor {
        if self.workers == 1 {
            return self.used_supervisor();
        }
        let holder = self.per_worker(deployment, "waiting").iter().position(|&count| count > 0);
        let holder = holder.expect("a poll");
        for _ in 0..64 {
            let mut supervisor = self.supervisor();
            if self.worker_of(&mut supervisor) != holder {
                return supervisor;
            }
        }
        panic!("64 connections went to worker {holder}");
    }

    /// The worker that serves a supervisor's connection: it counts a cold dispatch of a new key.
    pub fn worker_of(&self, supervisor: &mut Supervisor) -> usize {
        let probe = format!("deployment_probe_{}", self.probes.fetch_add(1, Ordering::Relaxed));
        supervisor.dispatch(&Run::new(&probe));
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(worker) = self.per_worker(&probe, "cold").iter().position(|&count| count > 0) {
                return worker;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no worker counted the probe");
    }

    /// GETs `/status`. The broker caches it for 100 ms; this waits for a fresh one.
    pub fn status(&self) -> Value {
        let mut asked = lock(&self.asked);
        if let Some(at) = *asked {
            thread::sleep(STATUS_AGE_MAX.saturating_sub(at.elapsed()));
        }
        let (status, body) = self.admin("GET", "/status", "");
        *asked = Some(Instant::now());
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A request to the admin side: status and JSON body.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.try_admin(method, path, body).expect("the admin side answers")
    }

    /// A request to the admin side; `None` without an answer.
    pub fn try_admin(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = self.net.connect(self.admin).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let response = read_response(&stream, PATIENCE);
        Some((response.status, serde_json::from_slice(&response.body).ok()?))
    }

    /// The number of held polls of a deployment.
    pub fn waiting(&self, deployment: &str) -> u64 {
        self.per_worker(deployment, "waiting").iter().sum()
    }

    /// One figure of a deployment's row, by worker.
    fn per_worker(&self, deployment: &str, number: &str) -> Vec<u64> {
        let status = self.status();
        let mut counts = vec![0; self.workers];
        for key in status["keys"].as_array().expect("keys") {
            if key["deployment"] == deployment && key["version"] == VERSION {
                for worker in key["workers"].as_array().expect("workers") {
                    counts[worker["worker"].as_u64().expect("a worker") as usize] +=
                        worker[number].as_u64().expect("a number");
                }
            }
        }
        counts
    }

    /// One counter, summed over the workers.
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        let workers = status["workers"].as_array().expect("workers");
        workers
            .iter()
            .map(|worker| worker[name].as_u64().unwrap_or_else(|| panic!("{name} in {worker}")))
            .sum()
    }

    /// Waits until exactly `count` polls of `deployment` are held.
    pub fn wait_for_polls(&self, deployment: &str, count: u64) {
        self.wait_until(&format!("{count} polls of {deployment}"), || self.waiting(deployment) == count);
    }

    /// Waits until `done`.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < until, "still not: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processor time used so far, user and system.
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    /// Limits the running process to `count` open files.
    pub fn limit_descriptors(&self, count: usize) {
        let status = Command::new("prlimit")
            .args(["--pid", &self.pid().to_string(), &format!("--nofile={count}:")])
            .status()
            .expect("prlimit: install util-linux");
        assert!(status.success(), "prlimit: {status}");
    }

    /// The open files of the thread with most of them: the limit applies to each descriptor table.
    pub fn open_files(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("/proc").flatten();
        let open = threads.map(|thread| fs::read_dir(thread.path().join("fd")).expect("/proc").count());
        open.max().expect("a thread")
    }

    pub fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("to signal the broker");
    }

    /// Stops all its threads, so that events queue in its kernel.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        wait_until_stopped(self.pid());
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// The exit status, if the process has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().expect("to wait")
    }

    /// Waits for the process to end.
    pub fn wait(&self, within: Duration) -> ExitStatus {
        let mut child = lock(&self.child);
        let status = process::wait(&mut child, within);
        status.unwrap_or_else(|| panic!("the broker still runs after {within:?}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            let log = lock(&self.log);
            eprintln!("the broker's log:\n{}", log.iter().map(String::as_str).collect::<String>());
        }
    }
}

/// Waits until every thread of a process is stopped.
pub fn wait_until_stopped(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while !threads_of(pid).iter().all(|stat| stat.trim_start().starts_with('T')) {
        assert!(Instant::now() < until, "process {pid} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The fields of /proc/PID/task/*/stat from the state on, for each thread.
fn threads_of(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("/proc");
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.filter_map(|stat| Some(stat.rsplit_once(')')?.1.to_owned())).collect()
}
