//! The binary, started as a file under `deploy/` starts it.

use super::product::BINARY;
use super::support::client::Client;
use super::support::trigger::{CONNECT, Key};
use super::support::{PATIENCE, process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A command without settings in its environment.
pub fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    process::clear_settings(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Starts a broker with these arguments and settings, but on free loopback ports.
pub fn with_settings<'a>(
    args: impl IntoIterator<Item = &'a str>,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Serving {
    let mut command = clean(BINARY);
    command.args(args).envs(settings);
    for side in ["LISTEN", "DISPATCH_LISTEN", "ADMIN_LISTEN"] {
        command.env(format!("PILOTLIGHT_{side}"), "127.0.0.1:0");
    }
    // The test reads the addresses from the log.
    command.env("PILOTLIGHT_LOG_FORMAT", "text");
    Serving::start(command)
}

/// A running broker; killed when dropped.
pub struct Serving {
    child: Child,
    pub runner: SocketAddr,
    pub dispatch: SocketAddr,
    pub admin: SocketAddr,
}

impl Serving {
    pub fn start(mut command: Command) -> Serving {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Serving::watch(child, stderr)
    }

    /// Waits until the broker serves, as `log` shows.
    pub fn watch(child: Child, log: impl BufRead + Send + 'static) -> Serving {
        let nowhere: SocketAddr = ([0, 0, 0, 0], 0).into();
        let mut serving = Serving { child, runner: nowhere, dispatch: nowhere, admin: nowhere };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        let mut seen = String::new();
        while !seen.contains("serving workers=") {
            let line =
                lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the broker does not serve: {seen}"));
            if let Some((side, addr)) = process::listener(&line) {
                match side {
                    "runner" => serving.runner = addr,
                    "dispatch" => serving.dispatch = addr,
                    _ => serving.admin = addr,
                }
            }
            seen += &(line + "\n");
        }
        wait_until("ready", || seen.clone(), || serving.get("/readyz") == 200);
        serving
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status of the admin side's answer.
    pub fn get(&self, path: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n");
        Client::connect(self.admin).ask(request).status
    }

    /// The runner side refuses dispatches, the dispatch side accepts them, and a run gets from the dispatch
    /// side to the runner side.
    pub fn assert_sides_are_separate_and_match(&self) {
        let key = Key::fresh();
        assert_eq!(Client::connect(self.runner).ask(CONNECT).status, 200);
        let forged = Client::connect(self.runner).ask(key.dispatch());
        assert!(forged.status >= 400, "the runner side takes dispatches: {forged:?}");
        let message = key.message();
        let mut runner = Client::connect(self.runner);
        runner.send(key.poll());
        // The answer is false until the broker holds the poll.
        let began = Instant::now();
        let mut supervisor = Client::connect(self.dispatch);
        while runner.read(Duration::from_millis(1)).is_err() {
            assert!(began.elapsed() < PATIENCE, "no match");
            supervisor.send(super::support::trigger::dispatch(&message));
            if let Ok(run) = runner.read(Duration::from_millis(300)) {
                assert_eq!((run.status, run.text()), (200, message.as_str()));
                drop(runner);
                assert!(supervisor.response().did_warm_start());
                return;
            }
            assert!(!supervisor.response().did_warm_start());
        }
        panic!("the poll was answered without a dispatch");
    }

    /// Ends the broker as a service manager does, and waits for its end.
    pub fn terminate(&mut self, pid: u32) -> ExitStatus {
        kill(Pid::from_raw(pid as i32), Signal::SIGTERM).expect("signalled");
        process::wait(&mut self.child, PATIENCE).expect("the broker still runs")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
