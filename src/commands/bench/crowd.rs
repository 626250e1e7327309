//! The load's runners and supervisors, all on one thread.

use super::reading::{self, Reading};
use super::schedule::Outcome;
use crate::commands::warm_start::Key;
use crate::sys::wait;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The readiness token of runner `i` is `i`; that of supervisor `i` is `SUPERVISORS + i`.
const SUPERVISORS: usize = 1 << 32;
/// A runner whose poll ended without an answer polls again after this time, like a real client.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const RUN: &str = "run_bench";
const RUN_DIGITS: usize = 12;
const VERSION: &str = "bench";

/// The settings of a crowd.
#[derive(Debug)]
pub struct Plan {
    /// The broker's runner side.
    pub runner_side: SocketAddr,
    /// The broker's dispatch side.
    pub dispatch_side: SocketAddr,
    /// The runners' deployments, assigned in turn.
    pub deployments: Vec<String>,
    /// A runner closes its poll and polls again after this time, as clients do.
    pub poll_timeout: Duration,
    /// A runner that received a run polls again after this time.
    pub work: Duration,
    /// The size of a dispatch's body.
    pub message_bytes: usize,
}

/// The result of a poll or a dispatch.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A runner has received this run.
    Delivered(u64),
    /// The broker answered the dispatch of this run.
    Answered(u64, Outcome),
    /// The broker answered a poll without a run. A real runner would exit.
    Refused(u16, String),
}

/// A TCP connection with its unsent and partly received bytes.
#[derive(Default)]
struct Connection {
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
    partial: Vec<u8>,
}

struct Runner {
    connection: Connection,
    /// Counts the polls, so that a timeout knows which poll it belongs to.
    polls: u32,
    /// A poll is under way.
    has_poll: bool,
}

#[derive(Default)]
struct Supervisor {
    connection: Connection,
    dispatched: Option<u64>,
}

/// All runners and supervisors.
pub struct Crowd {
    plan: Plan,
    poll: Poll,
    events: Events,
    runners: Vec<Runner>,
    supervisors: Vec<Supervisor>,
    idle: Vec<usize>,
    /// When polls time out, in order.
    timeouts: VecDeque<(Instant, usize, u32)>,
    /// When runners that execute a run poll again, in order.
    after_work: VecDeque<(Instant, usize)>,
    /// When runners whose connection ended poll again, in order.
    after_end: VecDeque<(Instant, usize)>,
    scratch: Vec<u8>,
    /// Polls that ended without an answer before their timeout.
    pub ended: u64,
}

impl Crowd {
    /// A crowd without runners and supervisors.
    pub fn new(plan: Plan) -> io::Result<Crowd> {
        Ok(Crowd {
            plan,
            poll: Poll::new()?,
            events: Events::with_capacity(512),
            runners: Vec::new(),
            supervisors: Vec::new(),
            idle: Vec::new(),
            timeouts: VecDeque::new(),
            after_work: VecDeque::new(),
            after_end: VecDeque::new(),
            scratch: vec![0; 64 * 1024],
            ended: 0,
        })
    }

    pub fn runners(&self) -> usize {
        self.runners.len()
    }

    /// Runners whose poll is sent.
    pub fn polling(&self) -> usize {
        self.runners.iter().filter(|runner| runner.has_poll && runner.connection.unsent.is_empty()).count()
    }

    /// Adds a runner. It polls at once.
    pub fn add_runner(&mut self) -> io::Result<()> {
        self.runners.push(Runner { connection: Connection::default(), polls: 0, has_poll: false });
        self.poll_for(self.runners.len() - 1, Instant::now())
    }

    /// Adds an idle supervisor.
    pub fn add_supervisor(&mut self) -> io::Result<()> {
        let index = self.supervisors.len();
        self.supervisors.push(Supervisor::default());
        self.supervisors[index].connection.open(
            self.poll.registry(),
            self.plan.dispatch_side,
            SUPERVISORS + index,
        )?;
        self.idle.push(index);
        Ok(())
    }

    pub fn has_idle_supervisor(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Dispatches a run through an idle supervisor. Does nothing if no supervisor is idle.
    pub fn dispatch(&mut self, run: u64) {
        let Some(index) = self.idle.pop() else { return };
        let deployments = &self.plan.deployments;
        let key = Key { deployment: &deployments[run as usize % deployments.len()], version: VERSION };
        let name = format!("{RUN}{run:0RUN_DIGITS$}");
        let request = key.dispatch_bytes(self.plan.dispatch_side, &name, self.plan.message_bytes);
        let supervisor = &mut self.supervisors[index];
        supervisor.dispatched = Some(run);
        supervisor.connection.unsent = request;
        // If the connection failed, the next readiness event reports it.
        let _ = supervisor.connection.push();
    }

    /// Waits up to `timeout` for readiness, then passes events to `note` and runs due timers.
    pub fn turn(&mut self, timeout: Duration, note: &mut impl FnMut(Event)) -> io::Result<()> {
        if wait::readable(&self.poll, timeout.min(self.next_timer()))? {
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            let ready: Vec<_> =
                self.events.iter().map(|event| (event.token().0, event.is_writable())).collect();
            for (token, writable) in ready {
                let event = match token.checked_sub(SUPERVISORS) {
                    Some(index) => self.supervisor_ready(index, writable)?,
                    None => self.runner_ready(token, writable)?,
                };
                event.into_iter().for_each(&mut *note);
            }
        }
        self.run_timers()
    }

    fn next_timer(&self) -> Duration {
        let fronts = [
            self.timeouts.front().map(|(at, ..)| *at),
            self.after_work.front().map(|(at, _)| *at),
            self.after_end.front().map(|(at, _)| *at),
        ];
        let next = fronts.into_iter().flatten().min();
        next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    fn run_timers(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(&(at, index, polls)) = self.timeouts.front()
            && at <= now
        {
            self.timeouts.pop_front();
            if self.runners[index].polls == polls {
                self.poll_for(index, now)?;
            }
        }
        while let Some(index) = due(&mut self.after_work, now).or_else(|| due(&mut self.after_end, now)) {
            self.poll_for(index, now)?;
        }
        Ok(())
    }

    /// Sends a runner's poll on its connection. If the runner has none, or its last poll is still open there, opens a
    /// new connection, as clients do.
    fn poll_for(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let plan = &self.plan;
        let key = Key { deployment: &plan.deployments[index % plan.deployments.len()], version: VERSION };
        let request = key.poll_bytes(plan.runner_side, &format!("bench_{index}"));
        let runner = &mut self.runners[index];
        if runner.has_poll || runner.connection.stream.is_none() {
            runner.connection.open(self.poll.registry(), plan.runner_side, index)?;
        }
        runner.has_poll = true;
        runner.polls = runner.polls.wrapping_add(1);
        self.timeouts.push_back((now + plan.poll_timeout, index, runner.polls));
        runner.connection.unsent = request;
        let _ = runner.connection.push();
        Ok(())
    }

    fn runner_ready(&mut self, index: usize, writable: bool) -> io::Result<Option<Event>> {
        let now = Instant::now();
        let runner = &mut self.runners[index];
        let reading = runner.connection.ready(writable, &mut self.scratch);
        if matches!(reading, Reading::Partial) {
            return Ok(None);
        }
        // Cancels this poll's timeout.
        let waited = std::mem::take(&mut runner.has_poll);
        runner.polls = runner.polls.wrapping_add(1);
        let (status, close, body) = match reading {
            Reading::Answer { status, close, body } => (status, close, body),
            Reading::Partial | Reading::Ended => {
                runner.connection.stream = None;
                // Between two polls, a runner needs no connection.
                if waited {
                    self.ended += 1;
                    self.after_end.push_back((now + AGAIN_AFTER, index));
                }
                return Ok(None);
            }
        };
        if close {
            runner.connection.stream = None;
        }
        match self.plan.work {
            Duration::ZERO => self.poll_for(index, now)?,
            work => self.after_work.push_back((now + work, index)),
        }
        Ok(Some(match run_of(&body).filter(|_| status == 200) {
            Some(run) => Event::Delivered(run),
            None => Event::Refused(status, String::from_utf8_lossy(&body).into_owned()),
        }))
    }

    fn supervisor_ready(&mut self, index: usize, writable: bool) -> io::Result<Option<Event>> {
        let supervisor = &mut self.supervisors[index];
        let (close, outcome) = match supervisor.connection.ready(writable, &mut self.scratch) {
            Reading::Partial => return Ok(None),
            Reading::Ended => (true, Outcome::Failed),
            Reading::Answer { status: 200, close, body } => {
                let warm = memchr::memmem::find(&body, b"true").is_some();
                (close, if warm { Outcome::Warm } else { Outcome::Cold })
            }
            Reading::Answer { close, .. } => (close, Outcome::Failed),
        };
        if close {
            supervisor.connection.open(self.poll.registry(), self.plan.dispatch_side, SUPERVISORS + index)?;
        }
        let Some(run) = supervisor.dispatched.take() else { return Ok(None) };
        self.idle.push(index);
        Ok(Some(Event::Answered(run, outcome)))
    }
}

/// Takes the first runner off `queue` if its time has come.
fn due(queue: &mut VecDeque<(Instant, usize)>, now: Instant) -> Option<usize> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    is_due.then(|| queue.pop_front()).flatten().map(|(_, index)| index)
}

impl Connection {
    fn open(&mut self, registry: &Registry, to: SocketAddr, token: usize) -> io::Result<()> {
        let mut stream = TcpStream::connect(to)?;
        let _ = stream.set_nodelay(true);
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        // This closes the old connection.
        *self = Connection { stream: Some(stream), ..Connection::default() };
        Ok(())
    }

    /// Sends as many unsent bytes as the connection takes, or none until it is established.
    fn push(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if self.unsent.is_empty() {
            return Ok(());
        }
        match stream.write(&self.unsent) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn ready(&mut self, writable: bool, scratch: &mut [u8]) -> Reading {
        if writable && self.push().is_err() {
            return Reading::Ended;
        }
        match &mut self.stream {
            Some(stream) => reading::read(stream, &mut self.partial, scratch),
            None => Reading::Partial,
        }
    }
}

/// The number of the run in a message.
fn run_of(message: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(message, RUN.as_bytes())? + RUN.len();
    std::str::from_utf8(message.get(at..at + RUN_DIGITS)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_found_in_its_message() {
        let key = Key { deployment: "deployment_x", version: VERSION };
        let request = key.dispatch_bytes("h:1", &format!("{RUN}{:0RUN_DIGITS$}", 77), 300);
        assert_eq!(run_of(&request), Some(77));
        assert_eq!(run_of(b"run_bench12"), None);
    }
}
