//! A runner as its own process, so that a test can stop it, kill it or keep it busy while its kernel goes on.
//! It is this binary, started again.

use super::broker::wait_until_stopped;
use super::encrypted::TlsPoller;
use super::http::{End, PATIENCE, Poller, Run, read_response};
use super::net::Net;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const WORD: &str = "runner-process";

/// A runner: polls, waits until bytes arrive, is busy for a while, then reads.
pub struct Runner {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

/// The response that a runner process received.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the message.
    pub body_bytes: usize,
    pub status: u16,
    pub end: End,
}

impl Received {
    pub fn of(&self, run: &Run) -> String {
        match self.end {
            End::Complete if self.body_bytes == run.message.len() => "the run".to_owned(),
            _ if self.body_bytes > 0 => format!("{} of {} bytes", self.body_bytes, run.message.len()),
            _ => "nothing".to_owned(),
        }
    }

    pub fn whole(&self, run: &Run) -> bool {
        self.end == End::Complete && self.status == 200 && self.body_bytes == run.message.len()
    }
}

impl Runner {
    /// Starts a runner that is busy for `busy` between the arrival of its run and reading it.
    pub fn start(net: &Net, broker: SocketAddr, deployment: &str, busy: Duration) -> Runner {
        Runner::launch(net, &[&broker.to_string(), deployment, &busy.as_millis().to_string()])
    }

    /// Starts a runner with TLS that trusts the authority in the file `ca`.
    pub fn start_tls(net: &Net, broker: SocketAddr, deployment: &str, busy: Duration, ca: &str) -> Runner {
        Runner::launch(net, &[&broker.to_string(), deployment, &busy.as_millis().to_string(), ca])
    }

    fn launch(net: &Net, words: &[&str]) -> Runner {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.arg(WORD).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = net.enter(|| command.spawn()).expect("a process");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Runner { child, stdout }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("to signal the runner");
    }

    /// Stops the process; its kernel goes on.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        wait_until_stopped(self.child.id());
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("to kill");
        self.child.wait().expect("to wait");
    }

    /// Waits until bytes have arrived at the runner.
    pub fn reached(&mut self) {
        assert_eq!(self.line(), "reached");
    }

    /// Waits until the runner has read, and returns what it received.
    pub fn received(&mut self) -> Received {
        let mut line = self.line();
        if line == "reached" {
            line = self.line();
        }
        let words: Vec<&str> = line.split(' ').collect();
        let ["read", status, body_bytes, end] = words[..] else { panic!("the runner printed {line:?}") };
        Received {
            status: status.parse().expect("a status"),
            body_bytes: body_bytes.parse().expect("a number"),
            end: match end {
                "complete" => End::Complete,
                "silent" => End::Silent,
                "closed" => End::Closed,
                _ => End::Reset,
            },
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("UTF-8");
        line.trim_end().to_owned()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Acts as the runner if this process was started as one.
pub fn helper(args: impl Iterator<Item = String>) -> Option<ExitCode> {
    let args: Vec<String> = args.skip(1).collect();
    let (words, ca) = match &args[..] {
        [words @ .., ca] if words.len() == 4 => (words, Some(ca)),
        words => (words, None),
    };
    let [word, broker, deployment, busy_ms] = words else { return None };
    if word != WORD {
        return None;
    }
    let broker: SocketAddr = broker.parse().expect("an address");
    let busy = Duration::from_millis(busy_ms.parse().expect("milliseconds"));
    let stream = TcpStream::connect(broker).expect("to connect");
    let mut secure = None;
    let poller = match ca {
        None => Poller::on(stream, deployment),
        Some(path) => {
            let authority = std::fs::read_to_string(path).expect("an authority");
            let socket = stream.try_clone().expect("a second handle");
            secure = Some(TlsPoller::on(socket, deployment, &authority));
            Poller { stream }
        }
    };
    let mut ready = [PollFd::new(poller.stream.as_fd(), PollFlags::POLLIN)];
    let until = Instant::now() + PATIENCE;
    // Stopping the process with a signal interrupts the wait.
    while poll(&mut ready, PollTimeout::NONE).is_err() && Instant::now() < until {}
    say("reached");
    thread::sleep(busy);
    let response = match &mut secure {
        Some(secure) => secure.read(PATIENCE),
        None => read_response(&poller.stream, PATIENCE),
    };
    let end = match response.end {
        End::Complete => "complete",
        End::Silent => "silent",
        End::Closed => "closed",
        End::Reset => "reset",
    };
    drop((secure, poller));
    say(&format!("read {} {} {end}", response.status, response.body.len()));
    Some(ExitCode::SUCCESS)
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    // The write fails if the test has ended early.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
