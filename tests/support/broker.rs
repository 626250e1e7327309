//! A broker as its own process.

use super::binary::{binary, engine};
use super::client::{Client, Response};
use super::trigger::Key;
use super::{PATIENCE, lock, process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A running broker on free ports.
///
/// When a passed test drops it, the broker must hold no connection and must end with status 0 on
/// SIGTERM.
pub struct Broker {
    child: Process,
    log: Arc<Mutex<Vec<String>>>,
    /// The number of polls that the test has seen held.
    polls: AtomicU64,
    /// The address of `--listen`.
    pub runner: SocketAddr,
    /// The address of `--dispatch-listen`, otherwise that of `--listen`.
    pub dispatch: SocketAddr,
    /// The address of `--admin-listen`.
    pub admin: SocketAddr,
}

impl Broker {
    /// Starts a broker with these flags.
    pub fn start(flags: &str) -> Broker {
        Broker::launch(None, &[], flags)
    }

    /// Starts a broker with these environment variables and flags.
    pub fn with_variables(variables: &[(&str, &str)], flags: &str) -> Broker {
        Broker::launch(None, variables, flags)
    }

    /// Starts a broker with a limit of `count` open files, or with the hard limit if that is lower.
    pub fn with_descriptors(count: usize, flags: &str) -> Broker {
        Broker::launch(Some(count), &[], flags)
    }

    fn launch(descriptors: Option<usize>, variables: &[(&str, &str)], flags: &str) -> Broker {
        let mut command = Command::new("sh");
        let limit = descriptors.map_or(String::new(), |count| format!("ulimit -n {count} 2>/dev/null; "));
        command.arg("-c").arg(format!("{limit}exec \"$0\" \"$@\"")).arg(binary());
        process::clear_settings(&mut command);
        // Long timeouts, so that a busy machine does not fail a delivery. Flags override them.
        command.env("PILOTLIGHT_DISPATCH_TIMEOUT", "15s");
        command.env("PILOTLIGHT_READ_TIMEOUT", "10s");
        command.env("PILOTLIGHT_ACK_TIMEOUT", "10s");
        command.envs(variables.iter().copied());
        // A flag may be given once only.
        command.arg("serve");
        for listener in ["--listen", "--admin-listen"] {
            if !flags.split_whitespace().any(|flag| flag == listener) {
                command.args([listener, "127.0.0.1:0"]);
            }
        }
        command.args(["--engine", &engine()]);
        if std::env::var_os("TEST_SECCOMP").is_some() && !flags.contains("--seccomp") {
            command.arg("--seccomp");
        }
        command.args(flags.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawned");

        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = Vec::new();
        let (mut runner, mut dispatch, mut admin) = (None, None, None);
        loop {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("UTF-8");
            assert!(count > 0, "the broker ended: {}", log.concat());
            if let Some((side, addr)) = process::listener(&line) {
                match side {
                    "runner" => runner = Some(addr),
                    "dispatch" => dispatch = Some(addr),
                    _ => admin = Some(addr),
                }
            }
            let serves = line.contains("serving workers=");
            log.push(line);
            if serves {
                break;
            }
        }
        let log = Arc::new(Mutex::new(log));
        thread::spawn({
            let log = log.clone();
            move || follow(stderr, &log)
        });
        let runner = runner.expect("a listener");
        let admin = admin.expect("a listener");
        let (polls, dispatch) = (AtomicU64::new(0), dispatch.unwrap_or(runner));
        let broker = Broker { child: Process(child), log, polls, runner, dispatch, admin };
        broker.wait_until("ready", || broker.admin("/readyz").status == 200);
        broker
    }

    /// Opens a runner's connection.
    pub fn client(&self) -> Client {
        Client::connect(self.runner)
    }

    /// Opens a supervisor's connection.
    pub fn supervisor(&self) -> Client {
        Client::connect(self.dispatch)
    }

    /// Opens a poll and waits until it is held.
    pub fn poll(&self, key: &Key) -> Client {
        let mut client = self.client();
        self.hold(&mut client, key.poll());
        client
    }

    /// Opens `count` polls of one key and waits until they are held.
    pub fn polls(&self, key: &Key, count: usize) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..count).map(|_| self.client()).collect();
        clients.iter_mut().for_each(|client| client.send(key.poll()));
        self.expect_polls(count);
        clients
    }

    /// Sends a poll and waits until it is held.
    pub fn hold(&self, client: &mut Client, poll: impl AsRef<[u8]>) {
        client.send(poll);
        self.expect_polls(1);
    }

    /// Waits until `count` more polls have been held. The counter only increases, so a `/status` that
    /// is 100 ms old does no harm.
    pub fn expect_polls(&self, count: usize) {
        let count = count as u64 + self.polls.fetch_add(count as u64, Ordering::Relaxed);
        self.wait_until(&format!("{count} polls"), || self.counter("polls") == count);
    }

    /// Dispatches `message` on a new connection.
    #[track_caller]
    pub fn dispatch(&self, message: &str) -> bool {
        self.supervisor().ask(super::trigger::dispatch(message)).did_warm_start()
    }

    /// Dispatches a run for `key`, which `poll` must receive.
    #[track_caller]
    pub fn deliver(&self, key: &Key, poll: &mut Client) -> Response {
        let message = key.message();
        let mut supervisor = self.supervisor();
        supervisor.send(super::trigger::dispatch(&message));
        let run = poll.response();
        assert_eq!((run.status, run.text()), (200, message.as_str()));
        if run.says_close() {
            poll.finish();
            poll.expect_closed();
        }
        assert!(supervisor.response().did_warm_start());
        run
    }

    /// GETs a path of the admin side.
    pub fn admin(&self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n");
        Client::connect(self.admin).ask(request)
    }

    /// GETs `/status`. Its figures may be 100 ms old.
    pub fn status(&self) -> Value {
        let response = self.admin("/status");
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// The number of held polls of a key.
    pub fn waiting(&self, key: &Key) -> u64 {
        self.per_worker(key, "waiting").iter().sum()
    }

    /// One figure of a key's row, by worker.
    pub fn per_worker(&self, key: &Key, number: &str) -> Vec<u64> {
        let status = self.status();
        let mut counts = vec![0; status["workers"].as_array().expect("workers").len()];
        for row in status["keys"].as_array().expect("keys") {
            let same = row["deployment"] == key.deployment
                && row["version"] == key.version
                && row["cpu"].as_f64() == key.cpu.parse().ok()
                && row["memory"].as_f64() == key.memory.parse().ok();
            for worker in row["workers"].as_array().expect("workers").iter().filter(|_| same) {
                let index = worker["worker"].as_u64().expect("a worker") as usize;
                counts[index] = worker[number].as_u64().expect("a number");
            }
        }
        counts
    }

    /// One counter, summed over the workers.
    pub fn counter(&self, name: &str) -> u64 {
        total(&self.status(), name)
    }

    #[track_caller]
    pub fn wait_for_polls(&self, key: &Key, count: u64) {
        self.wait_until(&format!("{count} polls of {key:?}"), || self.waiting(key) == count);
    }

    /// Waits until a counter is `count`.
    #[track_caller]
    pub fn wait_for(&self, name: &str, count: u64) {
        self.wait_until(&format!("{count} {name}"), || self.counter(name) == count);
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, done: impl FnMut() -> bool) {
        wait_until(what, || format!("{}\n{}", self.admin("/status").text(), self.log()), done);
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok());
        kib.expect("a number") * 1024
    }

    /// Processor time used so far.
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        lock(&self.log).concat()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("signalled");
    }

    /// Waits for the process to end.
    pub fn ended(&mut self) -> ExitStatus {
        let status = process::wait(&mut self.child.0, PATIENCE);
        status.unwrap_or_else(|| panic!("the broker still runs:\n{}", self.log()))
    }

    /// Waits until the broker has no connection and holds no poll.
    pub fn wait_until_quiet(&self) {
        // `/status` may be older than the last connection.
        thread::sleep(Duration::from_millis(100));
        self.wait_until("quiet", || {
            let status = self.status();
            ["connections", "waiting", "claimed"].iter().all(|name| total(&status, name) == 0)
        });
    }

    fn end(&mut self) {
        if self.child.0.try_wait().expect("waited").is_none() {
            self.wait_until_quiet();
            self.signal(Signal::SIGTERM);
            assert_eq!(self.ended().code(), Some(0), "{}", self.log());
        }
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        } else {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// Kills the process when dropped, even if the drop of [`Broker`] panics.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One counter of `/status`, summed over the workers.
fn total(status: &Value, name: &str) -> u64 {
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().map(|worker| worker[name].as_u64().unwrap_or_else(|| panic!("{name} in {worker}"))).sum()
}

fn follow(stderr: BufReader<ChildStderr>, log: &Mutex<Vec<String>>) {
    for line in stderr.lines().map_while(Result::ok) {
        lock(log).push(line + "\n");
    }
}
