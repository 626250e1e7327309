//! A wire between the broker's and the runners' networks, controlled by the test: two TUN devices, and a
//! thread that carries packets between them, delays them or drops them.
//!
//! Both ends are real kernels, which handle a lost ACK or a crossing FIN as in production. Unlike netem, the
//! wire can pick single segments, and it records all segments.

use super::net::Net;
use super::support::lock;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The broker's address on every wire.
pub const BROKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RUNNER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PACKET_BYTES_MAX: usize = 2048;

/// Whether a packet arrives, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    Delay(Duration),
}

/// A TCP segment on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// From the broker to a runner, or the other way.
    pub to_runner: bool,
    /// The runner's port, which identifies the connection.
    pub port: u16,
    pub seq: u32,
    pub ack: u32,
    pub payload_bytes: usize,
    pub syn: bool,
    pub rst: bool,
    /// The wire dropped it.
    pub lost: bool,
    pub at: Instant,
}

type Rule = Box<dyn FnMut(&Segment) -> Fate + Send>;

/// The wire. It is removed when dropped.
pub struct Wire {
    shared: Arc<Shared>,
    carrier: Option<JoinHandle<()>>,
    pub broker: Net,
    pub runner: Net,
}

struct Shared {
    rule: Mutex<Rule>,
    trace: Mutex<Vec<Segment>>,
    runner_end: Mutex<Arc<File>>,
    ended: AtomicBool,
}

impl Wire {
    /// A wire that carries every packet without delay.
    pub fn new() -> Wire {
        let (broker, runner) = (Net::new(), Net::new());
        let broker_end = plug(&broker, BROKER);
        let runner_end = Mutex::new(Arc::new(plug(&runner, RUNNER)));
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            trace: Mutex::default(),
            runner_end,
            ended: AtomicBool::new(false),
        });
        let carrier = thread::spawn({
            let shared = shared.clone();
            move || shared.carry(&broker_end)
        });
        Wire { shared, carrier: Some(carrier), broker, runner }
    }

    /// A wire with a delay in each direction.
    pub fn long(delay: Duration) -> Wire {
        let wire = Wire::new();
        wire.set_rule(move |_| Fate::Delay(delay));
        wire
    }

    /// Decides the fate of every segment from now on.
    pub fn set_rule(&self, rule: impl FnMut(&Segment) -> Fate + Send + 'static) {
        *lock(&self.shared.rule) = Box::new(rule);
    }

    /// Drops everything in both directions.
    pub fn cut(&self) {
        self.set_rule(|_| Fate::Drop);
    }

    /// Drops everything of the connections from these ports of the runner's network.
    pub fn cut_off(&self, ports: &[u16]) {
        let ports = ports.to_vec();
        self.set_rule(move |segment| if ports.contains(&segment.port) { Fate::Drop } else { Fate::Pass });
    }

    /// Carries everything again.
    pub fn mend(&self) {
        self.set_rule(|_| Fate::Pass);
    }

    /// Gives the runner's address to a new network; the old one is disconnected.
    pub fn replace_runner(&mut self) {
        let fresh = Net::new();
        let fresh_end = Arc::new(plug(&fresh, RUNNER));
        let old_end = std::mem::replace(&mut *lock(&self.shared.runner_end), fresh_end);
        while Arc::strong_count(&old_end) > 1 {
            // The carrier still waits for packets of the old network.
            thread::sleep(Duration::from_millis(1));
        }
        self.runner = fresh;
    }

    /// The segments of the latest connection from this port, in order. (After a reset a port can be used
    /// again immediately.)
    pub fn trace(&self, port: u16) -> Vec<Segment> {
        let trace = lock(&self.shared.trace);
        let of_port: Vec<Segment> = trace.iter().filter(|segment| segment.port == port).copied().collect();
        let began = of_port.iter().rposition(|segment| segment.syn && !segment.to_runner).unwrap_or(0);
        of_port[began..].to_vec()
    }

    /// The segments of a connection, one per line, for a failure message.
    pub fn describe(&self, port: u16) -> String {
        let trace = self.trace(port);
        let Some(began) = trace.first().map(|segment| segment.at) else { return String::new() };
        let lines = trace.iter().map(|seg| {
            let Segment { payload_bytes, syn, rst, lost, .. } = *seg;
            let to = if seg.to_runner { "to the runner" } else { "to the broker" };
            let at = seg.at - began;
            format!(
                "\n  {at:?} {to}: seq {} ack {} {payload_bytes} bytes, syn {syn} rst {rst} lost {lost}",
                seg.seq, seg.ack
            )
        });
        lines.collect()
    }

    /// The number of a connection's bytes that the runner's kernel acknowledged in segments that the wire
    /// carried.
    pub fn acked_bytes(&self, port: u16) -> usize {
        let trace = self.trace(port);
        let acks = trace.iter().filter(|seg| !seg.to_runner && !seg.syn && !seg.rst && !seg.lost);
        acks.map(|seg| past_origin(&trace, seg.ack)).max().unwrap_or(0)
    }

    /// Whether the runner's kernel has reset the connection.
    pub fn was_reset(&self, port: u16) -> bool {
        self.trace(port).iter().any(|seg| !seg.to_runner && seg.rst && !seg.lost)
    }
}

/// The number of the broker's bytes before this sequence number.
fn past_origin(trace: &[Segment], seq: u32) -> usize {
    let Some(first) = trace.iter().find(|seg| seg.to_runner && seg.syn) else { return 0 };
    let past = seq.wrapping_sub(first.seq).wrapping_sub(1);
    if past < 1 << 31 { past as usize } else { 0 }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// A packet on its way.
struct Flying {
    due: Instant,
    order: u64,
    to_runner: bool,
    bytes: Vec<u8>,
}

impl Shared {
    fn carry(&self, broker_end: &File) {
        let mut flying: BinaryHeap<Reverse<Flying>> = BinaryHeap::new();
        let mut order = 0;
        while !self.ended.load(Ordering::Relaxed) {
            let runner_end = lock(&self.runner_end).clone();
            let now = Instant::now();
            let due = flying.peek().map_or(IDLE, |next| next.0.due.saturating_duration_since(now));
            wait_for(&[broker_end, &runner_end], due.min(IDLE));
            for (end, to_runner) in [(broker_end, true), (&*runner_end, false)] {
                while let Some(bytes) = take(end) {
                    order += 1;
                    if let Some(due) = self.arrival(&bytes, to_runner) {
                        flying.push(Reverse(Flying { due, order, to_runner, bytes }));
                    }
                }
            }
            while flying.peek().is_some_and(|next| next.0.due <= Instant::now()) {
                let Some(Reverse(packet)) = flying.pop() else { break };
                let mut end = if packet.to_runner { &*runner_end } else { broker_end };
                // The write fails if the device has just gone down.
                let _ = end.write(&packet.bytes);
            }
        }
    }

    /// When a packet is due at the other end; `None`: dropped.
    fn arrival(&self, bytes: &[u8], to_runner: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut segment = parse(bytes, to_runner, now)?;
        let fate = (lock(&self.rule))(&segment);
        segment.lost = fate == Fate::Drop;
        lock(&self.trace).push(segment);
        match fate {
            Fate::Pass => Some(now),
            Fate::Drop => None,
            Fate::Delay(delay) => Some(now + delay),
        }
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Flying) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// How long the carrier sleeps when it has nothing to carry.
const IDLE: Duration = Duration::from_millis(20);

fn wait_for(ends: &[&File; 2], at_most: Duration) {
    let mut ends = ends.map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
    // Rounded up, so that a packet due in less than 1 ms does not make the thread spin.
    let timeout =
        PollTimeout::try_from(at_most.as_micros().div_ceil(1000) as i32).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut ends, timeout);
}

fn take(mut end: &File) -> Option<Vec<u8>> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    match end.read(&mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Some(bytes)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => None,
    }
}

/// Parses IPv4 with TCP. Other packets are dropped.
fn parse(bytes: &[u8], to_runner: bool, at: Instant) -> Option<Segment> {
    let ip_len = usize::from(bytes.first()? & 0xf) * 4;
    if bytes[0] >> 4 != 4 || *bytes.get(9)? != 6 {
        return None;
    }
    let tcp = bytes.get(ip_len..)?;
    let short = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
    let flags = *tcp.get(13)?;
    let header = usize::from(*tcp.get(12)? >> 4) * 4;
    Some(Segment {
        to_runner,
        port: short(if to_runner { 2 } else { 0 })?,
        seq: long(4)?,
        ack: long(8)?,
        payload_bytes: tcp.len().saturating_sub(header),
        syn: flags & 2 != 0,
        rst: flags & 4 != 0,
        lost: false,
        at,
    })
}

/// A TUN device with an address, in `net`.
fn plug(net: &Net, addr: Ipv4Addr) -> File {
    const NAME: &str = "wire0";
    let file = net.enter(|| {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open("/dev/net/tun").expect("/dev/net/tun: load the module tun");
        super::sys::attach_tun(file.as_raw_fd(), NAME).expect("a TUN device");
        file
    });
    net.ip(&format!("addr add {addr}/24 dev {NAME}"));
    net.ip(&format!("link set {NAME} up"));
    file
}
