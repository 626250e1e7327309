//! The supervisors: each dispatch uses an idle connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use crate::epoll::{Epoll, Ready};
use crate::http::{self, Reading};
use crate::message::Dispatch;
use crate::schedule::Outcome;
use crate::socket;

struct Supervisor {
    stream: TcpStream,
    dispatched: Option<u64>,
    partial: Vec<u8>,
}

/// Supervisor `i` has the epoll token `first_token + i`.
pub struct Supervisors {
    target: SocketAddrV4,
    first_token: u64,
    dispatch: Dispatch,
    supervisors: Vec<Supervisor>,
    idle: Vec<usize>,
    scratch: Vec<u8>,
}

impl Supervisors {
    pub fn new(target: SocketAddrV4, first_token: u64) -> Self {
        Supervisors {
            target,
            first_token,
            dispatch: Dispatch::default(),
            supervisors: Vec::new(),
            idle: Vec::new(),
            scratch: vec![0; 64 * 1024],
        }
    }

    /// Connects one more supervisor, which can dispatch after `start`.
    pub fn connect(&mut self) -> io::Result<()> {
        let stream = socket::connect(Ipv4Addr::LOCALHOST, self.target)?;
        self.supervisors.push(Supervisor { stream, dispatched: None, partial: Vec::new() });
        Ok(())
    }

    /// Before the start: keeps the connections for which `keep` holds and closes the others.
    pub fn retain(&mut self, mut keep: impl FnMut(u16) -> bool) {
        self.supervisors
            .retain(|supervisor| supervisor.stream.local_addr().is_ok_and(|addr| keep(addr.port())));
    }

    pub fn start(&mut self, epoll: &Epoll) -> io::Result<()> {
        for (index, supervisor) in self.supervisors.iter().enumerate() {
            epoll.add(&supervisor.stream, self.first_token + index as u64)?;
        }
        self.idle = (0..self.supervisors.len()).collect();
        Ok(())
    }

    pub fn owns(&self, token: u64) -> bool {
        token >= self.first_token
    }

    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Sends a dispatch on an idle connection. There must be one.
    pub fn dispatch(&mut self, run: u64, key: u32) -> io::Result<()> {
        let index = self.idle.pop().expect("an idle supervisor");
        let supervisor = &mut self.supervisors[index];
        supervisor.dispatched = Some(run);
        // A connection that fails here becomes ready with its end.
        let _ = socket::send(&supervisor.stream, self.dispatch.request(run, key));
        Ok(())
    }

    /// Handles readiness. Returns an answered run with its outcome.
    pub fn ready(&mut self, epoll: &Epoll, ready: Ready) -> io::Result<Option<(u64, Outcome)>> {
        if !ready.readable {
            return Ok(None);
        }
        let index = (ready.token - self.first_token) as usize;
        let supervisor = &mut self.supervisors[index];
        let (close, outcome) =
            match http::read(&supervisor.stream, &mut supervisor.partial, &mut self.scratch) {
                Reading::Partial => return Ok(None),
                Reading::Ended => (true, Outcome::Failed),
                Reading::Answer { status: 200, close, body } => {
                    let warm = memchr::memmem::find(&body, b"true").is_some();
                    (close, if warm { Outcome::Warm } else { Outcome::Cold })
                }
                Reading::Answer { close, .. } => (close, Outcome::Failed),
            };
        if close {
            supervisor.stream = socket::connect(Ipv4Addr::LOCALHOST, self.target)?;
            supervisor.partial.clear();
            epoll.add(&supervisor.stream, ready.token)?;
        }
        let dispatched = supervisor.dispatched.take();
        if dispatched.is_some() {
            self.idle.push(index);
        }
        Ok(dispatched.map(|run| (run, outcome)))
    }
}
