//! The runners: each holds one poll and polls again after the answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use crate::epoll::{Epoll, Ready};
use crate::http::{self, Reading};
use crate::message::{self, Poll};
use crate::socket;

/// A server that ends more polls per runner than this does not hold polls.
const RENEWED_MAX: u64 = 10;

struct Runner {
    stream: TcpStream,
    source: Ipv4Addr,
    key: u32,
    /// The poll is sent.
    polled: bool,
    partial: Vec<u8>,
}

/// Runner `i` has the epoll token `i`.
pub struct Runners {
    target: SocketAddrV4,
    poll: Poll,
    runners: Vec<Runner>,
    scratch: Vec<u8>,
    polled: usize,
    /// Polls that ended without an answer and were repeated.
    pub renewed: u64,
    /// Answers without a message, at which a real runner exits.
    pub refused: u64,
}

impl Runners {
    pub fn new(target: SocketAddrV4) -> Self {
        Runners {
            target,
            poll: Poll::default(),
            runners: Vec::new(),
            scratch: vec![0; 64 * 1024],
            polled: 0,
            renewed: 0,
            refused: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.runners.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runners.is_empty()
    }

    /// The number of runners with a poll.
    pub fn polled(&self) -> usize {
        self.polled
    }

    /// Connects one more runner, which polls after `start`.
    pub fn connect(&mut self, source: Ipv4Addr, key: u32) -> io::Result<()> {
        let stream = socket::connect(source, self.target)?;
        self.runners.push(Runner { stream, source, key, polled: false, partial: Vec::new() });
        Ok(())
    }

    /// Before the start: keeps the connections for which `keep` holds and closes the others.
    pub fn retain(&mut self, mut keep: impl FnMut(u16) -> bool) {
        self.runners.retain(|runner| runner.stream.local_addr().is_ok_and(|addr| keep(addr.port())));
    }

    pub fn start(&mut self, epoll: &Epoll, index: usize) -> io::Result<()> {
        epoll.add(&self.runners[index].stream, index as u64)?;
        self.poll(epoll, index)
    }

    /// Sends a runner's poll if it is connected, otherwise once it is.
    fn poll(&mut self, epoll: &Epoll, index: usize) -> io::Result<()> {
        let runner = &mut self.runners[index];
        if runner.polled {
            return Ok(());
        }
        match socket::send(&runner.stream, self.poll.request(runner.key)) {
            Ok(sent) => {
                runner.polled = sent;
                self.polled += usize::from(sent);
                Ok(())
            }
            Err(_) => self.reconnect(epoll, index),
        }
    }

    /// Handles readiness. Returns a received run; the runner has then polled again.
    pub fn ready(&mut self, epoll: &Epoll, ready: Ready) -> io::Result<Option<u64>> {
        let index = ready.token as usize;
        if ready.writable && !self.runners[index].polled {
            self.poll(epoll, index)?;
        }
        if !ready.readable {
            return Ok(None);
        }
        let runner = &mut self.runners[index];
        let (close, run) = match http::read(&runner.stream, &mut runner.partial, &mut self.scratch) {
            Reading::Partial => return Ok(None),
            Reading::Ended => {
                self.renewed += 1;
                if self.renewed > RENEWED_MAX * self.runners.len() as u64 {
                    return Err(io::Error::other("the server ends its polls"));
                }
                (true, None)
            }
            Reading::Answer { status, close, body } => {
                let run = if status == 200 { message::run_of(&body) } else { None };
                self.refused += u64::from(run.is_none());
                (close, run)
            }
        };
        if close {
            self.reconnect(epoll, index)?;
        } else {
            self.runners[index].polled = false;
            self.polled -= 1;
            self.poll(epoll, index)?;
        }
        Ok(run)
    }

    fn reconnect(&mut self, epoll: &Epoll, index: usize) -> io::Result<()> {
        let runner = &mut self.runners[index];
        self.polled -= usize::from(runner.polled);
        let stream = socket::connect(runner.source, self.target)?;
        epoll.add(&stream, index as u64)?;
        runner.stream = stream;
        runner.partial.clear();
        runner.polled = socket::send(&runner.stream, self.poll.request(runner.key)).unwrap_or(false);
        self.polled += usize::from(runner.polled);
        Ok(())
    }
}
