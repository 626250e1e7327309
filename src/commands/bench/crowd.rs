//! Runners that wait and supervisors that dispatch, all on one thread.

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

/// Runner `i` has the token `i`, supervisor `i` this and `i`.
const SUPERVISORS: usize = 1 << 32;
/// A runner whose poll ended without an answer polls again after this, about as soon as a client does.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const RUN: &str = "run_bench";
const RUN_DIGITS: usize = 12;
const VERSION: &str = "bench";

/// What the crowd is made of.
#[derive(Debug)]
pub struct Plan {
    /// The broker's runner side.
    pub runner_side: SocketAddr,
    /// Its dispatch side.
    pub dispatch_side: SocketAddr,
    /// The deployments that the runners are of, one after the other.
    pub deployments: Vec<String>,
    /// A runner hangs up and polls again after this, as clients do.
    pub poll_timeout: Duration,
    /// A runner that has got a run polls again after this.
    pub work: Duration,
    /// The size of a dispatch's body.
    pub message_bytes: usize,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A runner has received this run.
    Delivered(u64),
    /// A supervisor was answered about this run.
    Answered(u64, Outcome),
    /// A runner was answered something that no run is: a real one exits.
    Refused(u16, String),
}

/// A connection, and what is on its way in it.
#[derive(Default)]
struct Line {
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
    partial: Vec<u8>,
}

struct Runner {
    line: Line,
    /// Counts its polls, so that a time-out can tell whose it is.
    polls: u32,
    /// A poll is under way.
    waits: bool,
}

#[derive(Default)]
struct Supervisor {
    line: Line,
    dispatched: Option<u64>,
}

/// All of them.
pub struct Crowd {
    plan: Plan,
    poll: Poll,
    events: Events,
    runners: Vec<Runner>,
    supervisors: Vec<Supervisor>,
    idle: Vec<usize>,
    /// When polls time out, in order.
    ends: VecDeque<(Instant, usize, u32)>,
    /// When runners poll again that work, in order, and those whose connection ended.
    after_work: VecDeque<(Instant, usize)>,
    after_end: VecDeque<(Instant, usize)>,
    scratch: Vec<u8>,
    /// Polls that ended without an answer before their time.
    pub ended: u64,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(plan: Plan) -> io::Result<Crowd> {
        Ok(Crowd {
            plan,
            poll: Poll::new()?,
            events: Events::with_capacity(512),
            runners: Vec::new(),
            supervisors: Vec::new(),
            idle: Vec::new(),
            ends: VecDeque::new(),
            after_work: VecDeque::new(),
            after_end: VecDeque::new(),
            scratch: vec![0; 64 * 1024],
            ended: 0,
        })
    }

    /// Runners there are.
    pub fn runners(&self) -> usize {
        self.runners.len()
    }

    /// Runners whose poll has gone out.
    pub fn polling(&self) -> usize {
        self.runners.iter().filter(|runner| runner.waits && runner.line.unsent.is_empty()).count()
    }

    /// One more runner, which polls at once.
    pub fn add_runner(&mut self) -> io::Result<()> {
        self.runners.push(Runner { line: Line::default(), polls: 0, waits: false });
        self.poll_for(self.runners.len() - 1, Instant::now())
    }

    /// One more supervisor.
    pub fn add_supervisor(&mut self) -> io::Result<()> {
        let index = self.supervisors.len();
        self.supervisors.push(Supervisor::default());
        self.supervisors[index].line.open(
            self.poll.registry(),
            self.plan.dispatch_side,
            SUPERVISORS + index,
        )?;
        self.idle.push(index);
        Ok(())
    }

    /// A supervisor has nothing to do.
    pub fn has_idle_supervisor(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Dispatches a run by a supervisor that has nothing to do; not, if there is none.
    pub fn dispatch(&mut self, run: u64) {
        let Some(index) = self.idle.pop() else { return };
        let deployments = &self.plan.deployments;
        let key = Key { deployment: &deployments[run as usize % deployments.len()], version: VERSION };
        let name = format!("{RUN}{run:0RUN_DIGITS$}");
        let request = key.dispatch_bytes(self.plan.dispatch_side, &name, self.plan.message_bytes);
        let supervisor = &mut self.supervisors[index];
        supervisor.dispatched = Some(run);
        supervisor.line.unsent = request;
        // A connection that fails here shows its end as readiness.
        let _ = supervisor.line.push();
    }

    /// Waits for news, no longer than `timeout`, and passes on what it is.
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
            self.ends.front().map(|(at, ..)| *at),
            self.after_work.front().map(|(at, _)| *at),
            self.after_end.front().map(|(at, _)| *at),
        ];
        let next = fronts.into_iter().flatten().min();
        next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    fn run_timers(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(&(at, index, polls)) = self.ends.front()
            && at <= now
        {
            self.ends.pop_front();
            if self.runners[index].polls == polls {
                self.poll_for(index, now)?;
            }
        }
        while let Some(index) = due(&mut self.after_work, now).or_else(|| due(&mut self.after_end, now)) {
            self.poll_for(index, now)?;
        }
        Ok(())
    }

    /// Has a runner poll: on its connection if that was kept and has no poll, else on a new one, as clients do.
    fn poll_for(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let plan = &self.plan;
        let key = Key { deployment: &plan.deployments[index % plan.deployments.len()], version: VERSION };
        let request = key.poll_bytes(plan.runner_side, &format!("bench_{index}"));
        let runner = &mut self.runners[index];
        if runner.waits || runner.line.stream.is_none() {
            runner.line.open(self.poll.registry(), plan.runner_side, index)?;
        }
        runner.waits = true;
        runner.polls = runner.polls.wrapping_add(1);
        self.ends.push_back((now + plan.poll_timeout, index, runner.polls));
        runner.line.unsent = request;
        let _ = runner.line.push();
        Ok(())
    }

    fn runner_ready(&mut self, index: usize, writable: bool) -> io::Result<Option<Event>> {
        let now = Instant::now();
        let runner = &mut self.runners[index];
        let reading = runner.line.ready(writable, &mut self.scratch);
        if matches!(reading, Reading::Partial) {
            return Ok(None);
        }
        // Whatever is due for this poll is no more.
        let waited = std::mem::take(&mut runner.waits);
        runner.polls = runner.polls.wrapping_add(1);
        let (status, close, body) = match reading {
            Reading::Answer { status, close, body } => (status, close, body),
            Reading::Partial | Reading::Ended => {
                runner.line.stream = None;
                // A connection that ends between two polls is not missed.
                if waited {
                    self.ended += 1;
                    self.after_end.push_back((now + AGAIN_AFTER, index));
                }
                return Ok(None);
            }
        };
        if close {
            runner.line.stream = None;
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
        let (close, outcome) = match supervisor.line.ready(writable, &mut self.scratch) {
            Reading::Partial => return Ok(None),
            Reading::Ended => (true, Outcome::Failed),
            Reading::Answer { status: 200, close, body } => {
                let warm = memchr::memmem::find(&body, b"true").is_some();
                (close, if warm { Outcome::Warm } else { Outcome::Cold })
            }
            Reading::Answer { close, .. } => (close, Outcome::Failed),
        };
        if close {
            supervisor.line.open(self.poll.registry(), self.plan.dispatch_side, SUPERVISORS + index)?;
        }
        let Some(run) = supervisor.dispatched.take() else { return Ok(None) };
        self.idle.push(index);
        Ok(Some(Event::Answered(run, outcome)))
    }
}

/// The next runner whose time has come.
fn due(queue: &mut VecDeque<(Instant, usize)>, now: Instant) -> Option<usize> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    is_due.then(|| queue.pop_front()).flatten().map(|(_, index)| index)
}

impl Line {
    fn open(&mut self, registry: &Registry, to: SocketAddr, token: usize) -> io::Result<()> {
        let mut stream = TcpStream::connect(to)?;
        let _ = stream.set_nodelay(true);
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        // The old one is closed by this.
        *self = Line { stream: Some(stream), ..Line::default() };
        Ok(())
    }

    /// Sends what it can; while the connection is not there yet that is nothing.
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

/// The run that a message is for.
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
