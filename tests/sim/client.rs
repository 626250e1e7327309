//! A client's connection as its process sees it. It writes requests and reads responses in pieces,
//! with a minimal parser.

use super::net::{End, Event, Life, LinkId, Us};
use super::oracle::{Ask, Kind};
use super::world::Sim;
use pilotlight::broker::contract::Side;

pub struct Client {
    pub link: LinkId,
    me: usize,
    /// Bytes that the kernel has not accepted yet.
    unsent: Vec<u8>,
    /// Request bytes so far: the stream offset of the next request.
    asked: u64,
    in_pieces: bool,
    piece_at: Us,
    /// Bytes per read, and the time between two reads.
    slow_read: Option<(usize, Us)>,
    read_at: Us,
    inbox: Vec<u8>,
    /// Garbage was sent on it: it cannot carry another request.
    pub spoiled: bool,
}

pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
    pub close: bool,
}

impl Client {
    pub fn connect(sim: &mut Sim, me: usize, dispatch: bool) -> Client {
        let wire = sim.plan.wire(&mut sim.net.rng);
        let worker = sim.net.rng.index(sim.plan.workers);
        let side = match dispatch && sim.plan.own_dispatch_listener {
            true => Side::Dispatch,
            false => Side::Runner,
        };
        let in_pieces = sim.net.rng.chance(sim.plan.faults.fragments);
        let link = sim.net.connect(me, worker, side, wire);
        if sim.net.rng.chance(sim.plan.faults.cut * 0.1) {
            sim.net.cut(link, End::Broker);
        }
        Client {
            link,
            me,
            unsent: Vec::new(),
            asked: 0,
            in_pieces,
            piece_at: 0,
            slow_read: None,
            read_at: 0,
            inbox: Vec::new(),
            spoiled: false,
        }
    }

    /// Starts to write a request.
    pub fn ask(&mut self, sim: &mut Sim, kind: Kind, close: bool, bytes: &[u8]) {
        self.asked += bytes.len() as u64;
        self.spoiled |= kind == Kind::Garbage;
        sim.oracle.ask(self.link, Ask { kind, end: self.asked, close });
        self.unsent.extend_from_slice(bytes);
        self.turn(sim);
    }

    pub fn read_slowly(&mut self, bytes: usize, every: Us) {
        self.slow_read = Some((bytes, every));
    }

    /// Writes and reads as much as possible.
    pub fn turn(&mut self, sim: &mut Sim) {
        self.write(sim);
        self.read(sim);
    }

    fn write(&mut self, sim: &mut Sim) {
        while !self.unsent.is_empty() && sim.net.now >= self.piece_at {
            let mut count = self.unsent.len();
            if self.in_pieces {
                count = 1 + sim.net.rng.magnitude(count as u64 - 1) as usize;
            }
            match sim.net.write(self.link, End::Client, &self.unsent[..count]) {
                None => self.unsent.clear(),
                Some(0) => return,
                Some(taken) => drop(self.unsent.drain(..taken)),
            }
            if self.in_pieces && sim.net.rng.chance(0.5) {
                self.piece_at = sim.net.now + 1 + sim.net.rng.magnitude(5_000);
                sim.net.at(self.piece_at, Event::Actor(self.me));
            }
        }
    }

    fn read(&mut self, sim: &mut Sim) {
        if sim.net.now < self.read_at {
            return;
        }
        let max = self.slow_read.map_or(usize::MAX, |(bytes, _)| bytes);
        let count = sim.net.read(self.link, End::Client, max, &mut self.inbox);
        if let Some((_, every)) = self.slow_read
            && count > 0
        {
            self.read_at = sim.net.now + every;
            sim.net.at(self.read_at, Event::Actor(self.me));
        }
    }

    /// Takes the next whole response from the inbox and skips interim ones.
    pub fn response(&mut self) -> Option<Response> {
        loop {
            let head_end = find(&self.inbox, b"\r\n\r\n")? + 4;
            let head = String::from_utf8_lossy(&self.inbox[..head_end]).to_lowercase();
            let status = head.get(9..12)?.parse().unwrap_or(0);
            if status == 100 {
                self.inbox.drain(..head_end);
                continue;
            }
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |digits| digits.parse().unwrap_or(0));
            if self.inbox.len() < head_end + length {
                return None;
            }
            let body = self.inbox[head_end..head_end + length].to_vec();
            let close = head.contains("connection: close");
            self.inbox.drain(..head_end + length);
            return Some(Response { status, body, close });
        }
    }

    /// Bytes of a response have arrived.
    pub fn has_something(&self, sim: &Sim) -> bool {
        !self.inbox.is_empty() || !sim.net.socket(self.link, End::Client).queue.is_empty()
    }

    /// No more bytes will arrive.
    pub fn ended(&self, sim: &Sim) -> bool {
        let socket = sim.net.socket(self.link, End::Client);
        socket.queue.is_empty() && (socket.dead || socket.peer_fin || socket.life != Life::Held)
    }

    /// The kernel has accepted every byte.
    pub fn all_written(&self) -> bool {
        self.unsent.is_empty()
    }

    pub fn close(&self, sim: &mut Sim) {
        sim.net.close(self.link, End::Client);
    }

    pub fn abort(&self, sim: &mut Sim) {
        sim.net.abort(self.link, End::Client);
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
