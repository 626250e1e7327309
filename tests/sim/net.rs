//! TCP between processes, as far as delivery depends on it: kernel queues at both ends, windows,
//! acknowledgements that are late or lost, segments that are lost and sent again, FIN, half-close,
//! reset, and what Linux does when a process dies or closes with unread bytes.
//!
//! The network has its own clock: microseconds from the start of the world.

mod packets;

use super::rng::Rng;
use super::tally::Tally;
use pilotlight::broker::contract::Side;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub type Us = u64;
pub type LinkId = usize;

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client = 0,
    Broker = 1,
}

impl End {
    pub fn other(self) -> End {
        match self {
            End::Client => End::Broker,
            End::Broker => End::Client,
        }
    }
}

/// The state of an end's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// A process holds it.
    Held,
    /// Its process closed it; the kernel still sends the written bytes and a FIN.
    Orphan,
    /// The kernel has forgotten it.
    Gone,
}

/// One end of a link, as its kernel sees it.
pub struct Socket {
    pub life: Life,
    /// A reset arrived, or the kernel gave up.
    pub dead: bool,
    /// Closed in the ordinary way: stray packets get no reset.
    time_wait: bool,
    /// All bytes that the process wrote. Sequence numbers are indices into it; the FIN has the next one.
    pub out: Vec<u8>,
    pub fin: bool,
    /// Its process ended its own stream and keeps reading.
    pub half_closed: bool,
    sent: u64,
    pub acked: u64,
    window_edge: u64,
    pub send_buffer: usize,
    rto: Us,
    rto_token: u64,
    rto_armed: bool,
    /// Received and not yet read by the process.
    pub queue: VecDeque<u8>,
    pub received: u64,
    /// Number of bytes that the process has read.
    pub read: u64,
    pub peer_fin: bool,
    receive_buffer: usize,
    ack_owed: bool,
    /// When the kernel's state last changed.
    pub changed_at: Us,
}

impl Socket {
    fn new(send_buffer: usize, receive_buffer: usize) -> Socket {
        Socket {
            life: Life::Held,
            dead: false,
            time_wait: false,
            out: Vec::new(),
            fin: false,
            half_closed: false,
            sent: 0,
            acked: 0,
            window_edge: 0,
            send_buffer,
            rto: RTO_FIRST_US,
            rto_token: 0,
            rto_armed: false,
            queue: VecDeque::new(),
            received: 0,
            read: 0,
            peer_fin: false,
            receive_buffer,
            ack_owed: false,
            changed_at: 0,
        }
    }

    /// Bytes that the kernel would accept now.
    pub fn room(&self) -> usize {
        let queued = self.out.len() - (self.acked as usize).min(self.out.len());
        self.send_buffer.saturating_sub(queued)
    }

    /// Bytes written and not acknowledged (SIOCOUTQ). Sequence numbers survive a reset, so this does too.
    pub fn unacked(&self) -> u64 {
        (self.out.len() as u64).saturating_sub(self.acked)
    }

    /// The state in TCP_INFO still allows delivery.
    pub fn alive(&self) -> bool {
        !(self.dead || self.fin && self.peer_fin)
    }

    fn window(&self) -> u64 {
        self.receive_buffer.saturating_sub(self.queue.len()) as u64
    }
}

const RTO_FIRST_US: Us = 200_000;
const RTO_MAX_US: Us = 1_600_000;
const DELAYED_ACK_US: Us = 40_000;
/// TCP_USER_TIMEOUT and the keep-alive probes: the kernel gives up a silent peer after this.
const USER_TIMEOUT_US: Us = 8_200_000;

/// The properties of a link.
#[derive(Clone, Debug)]
pub struct Wire {
    pub delay: Us,
    pub jitter: Us,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that an acknowledgement waits for 40 ms.
    pub delayed_ack: f64,
    pub segment: usize,
    pub client_receive_buffer: usize,
    pub broker_send_buffer: usize,
}

pub struct Link {
    pub ends: [Socket; 2],
    pub wire: Wire,
    pub worker: usize,
    pub side: Side,
    /// The actor that holds the client end.
    pub actor: usize,
    pub established: bool,
    /// No listener: the kernel answered the SYN with a reset.
    pub refused: bool,
    /// Packets to this end are lost from now on.
    pub cut: [bool; 2],
    last_arrival: [Us; 2],
}

#[derive(Clone, Copy)]
pub struct Packet {
    link: LinkId,
    to: End,
    seq: u64,
    len: u64,
    fin: bool,
    reset: bool,
    /// Asks for an ACK although it carries no data.
    probe: bool,
    ack: u64,
    window_edge: u64,
}

/// What happens next.
#[derive(Clone, Copy)]
pub enum Event {
    Arrives(Packet),
    SynArrives(LinkId),
    Established(LinkId),
    Retransmit {
        link: LinkId,
        end: End,
        token: u64,
    },
    AckIsDue {
        link: LinkId,
        end: End,
    },
    PeerGivenUp(LinkId),
    /// A worker's loop runs.
    Worker(usize),
    /// An actor checks its sockets.
    Actor(usize),
    /// The next message from one worker arrives at another.
    Mail {
        from: usize,
        to: usize,
    },
    /// The control thread sends a command.
    Admin(usize),
    /// The broker's clock jumps.
    ClockJump,
}

struct Entry(Us, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The network, its clock and its event queue.
pub struct Net {
    pub now: Us,
    pub rng: Rng,
    pub links: Vec<Link>,
    /// Connections that wait for an accept, by worker.
    pub backlog: Vec<VecDeque<LinkId>>,
    pub listening: Vec<bool>,
    agenda: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    /// Ends whose state changed since the last `take`.
    pub changed_ends: Vec<(LinkId, End)>,
    /// The faults that occurred.
    pub tally: Tally,
}

impl Net {
    pub fn new(rng: Rng, workers: usize) -> Net {
        Net {
            now: 0,
            rng,
            links: Vec::new(),
            backlog: vec![VecDeque::new(); workers],
            listening: vec![true; workers],
            agenda: BinaryHeap::new(),
            sequence: 0,
            changed_ends: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub fn at(&mut self, at: Us, event: Event) {
        self.sequence += 1;
        self.agenda.push(Reverse(Entry(at.max(self.now), self.sequence, event)));
    }

    pub fn after(&mut self, us: Us, event: Event) {
        self.at(self.now + us, event);
    }

    /// Moves the clock to the next event, and handles the events that concern only the network.
    pub fn next(&mut self) -> Option<Event> {
        let Reverse(Entry(at, _, event)) = self.agenda.pop()?;
        self.now = at;
        match event {
            Event::Arrives(packet) => self.arrives(packet),
            Event::SynArrives(link) => self.syn_arrives(link),
            Event::Established(link) => {
                self.links[link].established = true;
                self.changed_ends.push((link, End::Client));
                self.pump(link, End::Client);
            }
            Event::Retransmit { link, end, token } => self.retransmit(link, end, token),
            Event::AckIsDue { link, end } if self.socket(link, end).ack_owed => {
                self.acknowledge(link, end, false);
            }
            Event::PeerGivenUp(link) => self.give_up(link, End::Broker),
            _ => {}
        }
        Some(event)
    }

    pub fn next_at(&self) -> Option<Us> {
        self.agenda.peek().map(|Reverse(entry)| entry.0)
    }

    pub fn socket(&self, link: LinkId, end: End) -> &Socket {
        &self.links[link].ends[end as usize]
    }

    fn socket_mut(&mut self, link: LinkId, end: End) -> &mut Socket {
        &mut self.links[link].ends[end as usize]
    }

    /// A client begins to connect.
    pub fn connect(&mut self, actor: usize, worker: usize, side: Side, wire: Wire) -> LinkId {
        let link = self.links.len();
        let delay = wire.delay;
        let client = Socket::new(1 << 20, wire.client_receive_buffer);
        let broker = Socket::new(wire.broker_send_buffer, 256 << 10);
        self.links.push(Link {
            ends: [client, broker],
            wire,
            worker,
            side,
            actor,
            established: false,
            refused: false,
            cut: [false; 2],
            last_arrival: [0; 2],
        });
        self.after(delay, Event::SynArrives(link));
        link
    }

    fn syn_arrives(&mut self, link: LinkId) {
        if self.links[link].cut[End::Broker as usize] {
            return;
        }
        let worker = self.links[link].worker;
        if !self.listening[worker] {
            self.links[link].ends[End::Broker as usize].life = Life::Gone;
            return self.send_reset(link, End::Broker);
        }
        for (end, peer) in [(End::Client, End::Broker), (End::Broker, End::Client)] {
            let edge = self.socket(link, peer).window();
            self.socket_mut(link, end).window_edge = edge;
        }
        self.backlog[worker].push_back(link);
        self.changed_ends.push((link, End::Broker));
        let at = self.now + self.links[link].wire.delay;
        self.links[link].last_arrival[End::Client as usize] = at;
        self.at(at, Event::Established(link));
    }

    /// Writes as much as the kernel accepts. `None`: the connection is broken.
    pub fn write(&mut self, link: LinkId, end: End, bytes: &[u8]) -> Option<usize> {
        let established = self.links[link].established || end == End::Broker;
        let socket = self.socket_mut(link, end);
        if socket.dead || socket.fin || socket.life != Life::Held {
            return None;
        }
        if !established {
            return Some(0);
        }
        let taken = bytes.len().min(socket.room());
        socket.out.extend_from_slice(&bytes[..taken]);
        self.pump(link, end);
        Some(taken)
    }

    /// Reads at most `max` bytes into `into`.
    pub fn read(&mut self, link: LinkId, end: End, max: usize, into: &mut Vec<u8>) -> usize {
        let segment = self.links[link].wire.segment as u64;
        let socket = self.socket_mut(link, end);
        let before = socket.window();
        let count = max.min(socket.queue.len());
        let (front, back) = socket.queue.as_slices();
        let from_front = count.min(front.len());
        into.extend_from_slice(&front[..from_front]);
        into.extend_from_slice(&back[..count - from_front]);
        socket.queue.drain(..count);
        socket.read += count as u64;
        let shut = before < segment && socket.window() > before;
        if shut && !socket.dead {
            self.acknowledge(link, end, false);
        }
        count
    }

    /// Ends this end's stream; it can still read.
    pub fn shutdown(&mut self, link: LinkId, end: End) {
        self.socket_mut(link, end).half_closed = true;
        self.finish(link, end);
    }

    fn finish(&mut self, link: LinkId, end: End) {
        self.socket_mut(link, end).fin = true;
        self.pump(link, end);
    }

    /// The process closes. With unread bytes the peer gets a reset, otherwise a FIN after the written bytes.
    pub fn close(&mut self, link: LinkId, end: End) {
        let established = self.links[link].established || end == End::Broker;
        let socket = self.socket_mut(link, end);
        if socket.life != Life::Held {
            return;
        }
        if socket.dead {
            socket.life = Life::Gone;
        } else if !established || !socket.queue.is_empty() {
            self.abort(link, end);
        } else {
            socket.life = Life::Orphan;
            self.finish(link, end);
            self.free_orphan(link, end);
        }
    }

    /// Closes with a reset: unsent bytes are dropped.
    pub fn abort(&mut self, link: LinkId, end: End) {
        let dead = self.socket(link, end).dead;
        self.socket_mut(link, end).life = Life::Gone;
        if !dead {
            self.send_reset(link, end);
        }
    }

    /// All packets to `end` are lost from now on, until the broker's kernel gives the peer up.
    pub fn cut(&mut self, link: LinkId, end: End) {
        self.tally.count("fault: a wire is cut");
        self.links[link].cut[end as usize] = true;
        self.after(USER_TIMEOUT_US, Event::PeerGivenUp(link));
    }

    /// The link works again.
    pub fn mend(&mut self, link: LinkId) {
        self.links[link].cut = [false; 2];
    }

    /// A middlebox resets both ends.
    pub fn inject_reset(&mut self, link: LinkId) {
        self.tally.count("fault: the network resets a connection");
        self.send_reset(link, End::Client);
        self.send_reset(link, End::Broker);
    }

    fn give_up(&mut self, link: LinkId, end: End) {
        if self.links[link].cut != [false; 2] {
            self.break_off(link, end);
        }
    }

    fn break_off(&mut self, link: LinkId, end: End) {
        let now = self.now;
        let socket = self.socket_mut(link, end);
        socket.dead = true;
        socket.changed_at = now;
        if socket.life == Life::Orphan {
            socket.life = Life::Gone;
        }
        self.changed_ends.push((link, end));
    }
}
