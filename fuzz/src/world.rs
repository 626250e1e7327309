//! Two workers, their peers and the mesh, driven by the input; and the rules of a naive model.

use crate::broker::Broker;
use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, MeshMessage, Output, Payload, SendConfirm, TcpFacts};
use crate::broker::report::{Allowance, Command, KeyPage, Selector};
use crate::broker::settings::{Confirm, ConnectionLimit, MatchOrder, Settings};
use crate::broker::time::Time;
use crate::bytes::Bytes;
use crate::shared::{OneThread, settings};
use std::collections::{HashMap, VecDeque};

const WORKERS: usize = 2;
const SLOTS: usize = 6;
/// The most deadlines within one step. A worker that shuts down checks every 10 ms while a delivery is in
/// progress.
const TICKS_MAX: usize = 10_000;

/// A connection as its peer and its kernel know it.
#[derive(Default)]
struct Peer {
    generation: u32,
    open: bool,
    /// A response is being written, with this confirmation.
    writing: Option<SendConfirm>,
    /// `Acked` may be reported.
    acked_due: bool,
    /// A `Send` awaits its proof of delivery.
    in_question: bool,
    fin: bool,
    fin_unacked: bool,
    /// A probe has seen the FIN, whose event may still be queued. Later probes must see it too.
    fin_seen: bool,
    probes: usize,
    /// Has sent complete, well-formed requests only.
    tame: bool,
    polled: Vec<u8>,
    /// Runs dispatched here and not answered, and since when the first answer is expected.
    asked: VecDeque<u32>,
    since: Option<Time>,
    /// The run written here last, and whether the kernel took all of it.
    run: Option<(u32, bool)>,
}

#[derive(Default)]
struct Run {
    key: u8,
    /// The connection that it was written to.
    holders: Vec<(usize, u32, u32)>,
    /// The input gave the core the proof of delivery that its mode requires.
    proven: bool,
}

pub struct World {
    workers: Vec<Broker<OneThread>>,
    peers: Vec<Vec<Peer>>,
    shared: OneThread,
    settings: Settings,
    now: Time,
    mesh: [VecDeque<MeshMessage>; WORKERS],
    runs: HashMap<u32, Run>,
    next_run: u32,
    shutting_down: bool,
}

/// Runs all of `data`, then closes all connections. No state may remain.
pub fn play(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new(&mut bytes);
    while !bytes.is_empty() {
        world.step(&mut bytes);
    }
    world.end();
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> World {
        let confirm = [Confirm::Read, Confirm::Ack, Confirm::Write][bytes.below(3)];
        let ordinary = settings(confirm);
        let match_order = if bytes.chance() { MatchOrder::Oldest } else { MatchOrder::Newest };
        let connections = bytes.below(12);
        let settings = Settings {
            match_order,
            connections: ConnectionLimit::of(3 + connections, WORKERS),
            // One world in twelve has no room for incomplete requests.
            buffered_bytes_max: if connections == 11 { 0 } else { ordinary.buffered_bytes_max },
            keys_max: 1 + bytes.below(3),
            pipeline_bytes_max: 1 << (4 + bytes.below(12)),
            attempts_max: 1 + bytes.below(3) as u8,
            ..ordinary
        };
        let shared = OneThread::default();
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let worker = |worker| Broker::new(worker, settings.clone(), hasher.clone(), shared.clone());
        World {
            workers: (0..WORKERS).map(worker).collect(),
            peers: (0..WORKERS).map(|_| (0..SLOTS).map(|_| Peer::default()).collect()).collect(),
            settings: settings.clone(),
            shared: shared.clone(),
            now: Time::from_ms(bytes.below(4) as u64 * 1_000),
            mesh: Default::default(),
            runs: HashMap::new(),
            next_run: 1,
            shutting_down: false,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.byte();
        let (worker, slot) = (usize::from(choice >> 7), usize::from(choice >> 4 & 7) % SLOTS);
        let peer = &mut self.peers[worker][slot];
        let conn = ConnId { slot: slot as u32, generation: peer.generation };
        let open = peer.open;
        match choice & 15 {
            0 | 1 if !open && !self.shutting_down => {
                let generation = peer.generation + 1;
                *peer = Peer { generation, open: true, tame: true, ..Peer::default() };
                let conn = ConnId { slot: slot as u32, generation };
                let side = if bytes.below(8) == 7 { Side::Dispatch } else { Side::Runner };
                peer.tame = side == Side::Runner && self.settings.buffered_bytes_max > 0;
                let spoken = self.report_unread(worker, bytes);
                self.input(worker, Input::Accepted { conn, side });
                for conn in spoken {
                    let peer = &self.peers[worker][conn.slot as usize];
                    assert!(
                        peer.open && peer.generation == conn.generation,
                        "a connection with unread bytes made room"
                    );
                }
            }
            0..=3 if open && !peer.fin => self.request(worker, slot, 2 * (choice & 1) + bytes.byte() % 2),
            4 if open && !peer.fin => {
                peer.tame = false;
                let len = bytes.below(64);
                let piece = if len == 63 { EXPECTS } else { bytes.take(len) };
                self.input(worker, Input::Received { conn, bytes: piece });
            }
            5 | 6 if open && peer.writing.is_some() => {
                let confirm = peer.writing.take();
                peer.acked_due = confirm == Some(SendConfirm::Acked);
                peer.in_question |= confirm != Some(SendConfirm::None);
                if let Some((run, sent)) = &mut peer.run {
                    *sent = true;
                    let run = *run;
                    if self.settings.confirm == Confirm::Write {
                        self.prove(run);
                    }
                }
                self.input(worker, Input::Sent { conn });
            }
            7 if open && peer.acked_due => {
                peer.acked_due = false;
                if let Some((run, _)) = peer.run {
                    self.prove(run);
                }
                self.input(worker, Input::Acked { conn });
            }
            8 if open && (!peer.fin || peer.fin_unacked) => {
                // Reported again while bytes are unacknowledged, with newer facts.
                peer.fin = true;
                let facts = (peer.in_question || peer.writing.is_some()).then(|| facts(bytes, true));
                peer.fin_unacked = facts.is_some_and(|facts| facts.unacked_bytes > 0);
                self.note_proof(worker, slot, facts);
                self.input(worker, Input::PeerClosed { conn, facts });
            }
            9 if open => {
                peer.open = false;
                peer.asked.clear();
                self.input(worker, Input::Reset { conn });
                // The core closes its side. No further event follows.
            }
            10 if open && peer.probes > 0 => {
                peer.probes -= 1;
                let facts = facts(bytes, peer.fin || peer.fin_seen);
                peer.fin_seen = facts.fin;
                self.note_proof(worker, slot, Some(facts));
                self.input(worker, Input::Probed { conn, facts });
            }
            11 => {
                let ms = 1u64 << bytes.below(17);
                self.pass(self.now.plus_ms(ms - 1 + bytes.below(3) as u64));
            }
            12 | 13 => self.deliver(worker),
            14 => self.command(worker, bytes.byte()),
            15 if peer.generation > 1 || !open && peer.generation > 0 => {
                // Facts about an earlier generation are ignored.
                let generation = peer.generation - u32::from(open);
                let old = ConnId { slot: slot as u32, generation };
                let before = self.workers[worker].counters().clone();
                self.workers[worker].handle(self.now, Input::Received { conn: old, bytes: b"GET" });
                self.workers[worker].handle(self.now, Input::Unread { conn: old });
                self.workers[worker].handle(self.now, Input::Sent { conn: old });
                self.workers[worker].handle(self.now, Input::PeerClosed { conn: old, facts: None });
                self.workers[worker].handle(self.now, Input::Reset { conn: old });
                assert_eq!(self.workers[worker].counters(), &before);
                assert!(self.workers[worker].poll_output().is_none());
            }
            _ => {}
        }
    }

    /// Reports connections with unread bytes, as a worker does before it accepts a connection.
    fn report_unread(&mut self, worker: usize, bytes: &mut Bytes<'_>) -> Vec<ConnId> {
        let mut spoken = Vec::new();
        while let Some(conn) = self.workers[worker].next_to_make_room()
            && bytes.chance()
        {
            assert!(!spoken.contains(&conn), "a connection reported as unread is not offered again");
            self.input(worker, Input::Unread { conn });
            spoken.push(conn);
        }
        spoken
    }

    /// Sends a complete poll or dispatch for one of two keys.
    fn request(&mut self, worker: usize, slot: usize, which: u8) {
        let key = which & 1;
        let peer = &mut self.peers[worker][slot];
        let conn = ConnId { slot: slot as u32, generation: peer.generation };
        let request = if which & 2 == 0 {
            peer.polled.push(key);
            format!(
                "GET /warm-start HTTP/1.1\r\nHost: b\r\nx-trigger-deployment-id: d\r\n\
                 x-trigger-deployment-version: {key}\r\nx-trigger-machine-cpu: 0.5\r\n\
                 x-trigger-machine-memory: 1\r\nx-trigger-worker-instance-name: node-{key}\r\n\r\n"
            )
        } else {
            let run = self.next_run;
            self.next_run += 1;
            self.runs.insert(run, Run { key, ..Run::default() });
            let idle = peer.polled.is_empty() && peer.asked.is_empty() && peer.writing.is_none();
            peer.since = (idle && peer.tame).then_some(self.now);
            peer.asked.push_back(run);
            let body = format!(
                r##"{{"dequeuedMessage":{{"deployment":{{"friendlyId":"d"}},"backgroundWorker":{{"version":"{key}"}},"run":{{"id":"#{run:08}","machine":{{"cpu":5e-1,"memory":1.0}}}}}}}}"##
            );
            format!("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        self.input(worker, Input::Received { conn, bytes: request.as_bytes() });
    }

    fn command(&mut self, worker: usize, which: u8) {
        let selector = match which & 1 {
            0 => Selector::Node(format!("node-{}", which >> 1 & 1)),
            _ => Selector::Deployment("d".into()),
        };
        let command = match which >> 2 {
            0..=15 => Command::Cordon(selector),
            16..=40 => Command::Uncordon(selector),
            41..=60 => Command::Report {
                keys: (which & 1 == 0).then(KeyPage::default),
                dispatch_events: Some(Allowance { any: u32::from(which), traced: u32::from(which >> 4) }),
            },
            _ => {
                self.shutting_down = true;
                Command::ShutDown
            }
        };
        self.input(worker, Input::Command(command));
    }

    /// Delivers the next message to `worker`.
    fn deliver(&mut self, worker: usize) {
        if let Some(message) = self.mesh[worker].pop_front() {
            self.input(worker, Input::Mesh { from: 1 - worker, message });
        }
    }

    /// Notes whether these facts prove the delivery of a run.
    fn note_proof(&mut self, worker: usize, slot: usize, facts: Option<TcpFacts>) {
        let peer = &self.peers[worker][slot];
        let (Some((run, true)), Some(facts)) = (peer.run, facts) else { return };
        let proves = match self.settings.confirm {
            Confirm::Read => facts.alive && (peer.fin || facts.fin),
            // A reset does not revoke an acknowledgement.
            Confirm::Ack => true,
            Confirm::Write => false,
        };
        if proves && facts.unacked_bytes == 0 {
            self.prove(run);
        }
    }

    fn prove(&mut self, run: u32) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.proven = true;
        }
    }

    fn input(&mut self, worker: usize, input: Input<'_>) {
        self.workers[worker].handle(self.now, input);
        self.outputs(worker);
    }

    fn outputs(&mut self, worker: usize) {
        while let Some(output) = self.workers[worker].poll_output() {
            match output {
                Output::Send { conn, payload, confirm } => self.sends(worker, conn, &payload, confirm),
                Output::Close { conn } | Output::Abort { conn } => {
                    let peer = self.peer(worker, conn);
                    peer.open = false;
                    peer.asked.clear();
                }
                Output::Probe { conn } => self.peer(worker, conn).probes += 1,
                Output::Pause { conn } | Output::Resume { conn } | Output::HalfClose { conn } => {
                    assert!(self.peer(worker, conn).open);
                }
                Output::Mesh { to, message } => {
                    assert_eq!(to, 1 - worker);
                    self.mesh[to].push_back(message);
                }
                Output::StopAccepting => assert!(self.shutting_down),
                Output::ShutdownComplete => assert_eq!(self.workers[worker].connections(), 0),
                Output::Report(report) => assert!(report.claimed <= report.waiting),
                Output::Event(_) => {}
            }
        }
    }

    fn peer(&mut self, worker: usize, conn: ConnId) -> &mut Peer {
        let peer = &mut self.peers[worker][conn.slot as usize];
        assert_eq!(peer.generation, conn.generation, "an output for another generation");
        peer
    }

    fn sends(&mut self, worker: usize, conn: ConnId, payload: &Payload, confirm: SendConfirm) {
        let text = String::from_utf8_lossy(payload.bytes()).into_owned();
        let peer = self.peer(worker, conn);
        assert!(peer.open, "a response to a closed connection");
        assert!(peer.writing.is_none(), "two responses at once");
        peer.writing = Some(confirm);
        // An acknowledgement is for the last `Send`, of which no byte is sent yet.
        peer.acked_due = false;
        peer.run = None;
        assert!(!peer.tame || text.starts_with("HTTP/1.1 200 "), "a refusal of a good request: {text}");
        if let Some(at) = text.find("\"#").filter(|_| text.starts_with("HTTP/1.1 200 ")) {
            let Some(run) = text.get(at + 2..at + 10).and_then(|digits| digits.parse().ok()) else { return };
            return self.run_sent(worker, conn, run);
        }
        if !peer.tame || !text.contains("didWarmStart") {
            return;
        }
        let run = peer.asked.pop_front().expect("an answer to nothing");
        peer.since = None;
        assert!(!text.contains("true") || self.runs[&run].proven, "true before it is proven");
    }

    fn run_sent(&mut self, worker: usize, conn: ConnId, id: u32) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        for (worker, slot, generation) in &run.holders {
            let holder = &self.peers[*worker][*slot as usize];
            assert!(holder.generation != *generation || !holder.open, "with two runners at once");
        }
        assert!(!run.proven, "delivered again");
        run.holders.push((worker, conn.slot, conn.generation));
        assert!(run.holders.len() <= usize::from(self.settings.attempts_max), "too many attempts");
        let key = run.key;
        let peer = self.peer(worker, conn);
        assert!(!peer.tame || peer.polled.contains(&key), "a run for another key");
        peer.run = Some((id, false));
    }

    /// Advances to `until`, and ticks at every deadline until then.
    fn pass(&mut self, until: Time) {
        for _ in 0..TICKS_MAX {
            let due =
                (0..WORKERS).filter_map(|worker| Some((self.workers[worker].next_deadline()?, worker))).min();
            let Some((at, worker)) = due.filter(|(at, _)| *at <= until) else {
                self.now = until;
                return self.check_answers();
            };
            self.now = self.now.max(at);
            self.workers[worker].tick(self.now);
            self.outputs(worker);
        }
        panic!("a worker never comes to rest");
    }

    fn check_answers(&self) {
        for peer in self.peers.iter().flatten().filter(|peer| peer.open && peer.tame) {
            let Some(since) = peer.since.filter(|_| !peer.asked.is_empty()) else { continue };
            let latest = since.plus_ms(self.settings.dispatch_timeout_ms);
            assert!(self.now <= latest, "a dispatch without an answer");
        }
    }

    /// Resets all connections, delivers all messages, and lets time pass.
    fn end(&mut self) {
        for worker in 0..WORKERS {
            for slot in 0..SLOTS {
                let peer = &mut self.peers[worker][slot];
                if std::mem::take(&mut peer.open) {
                    let conn = ConnId { slot: slot as u32, generation: peer.generation };
                    self.input(worker, Input::Reset { conn });
                }
            }
        }
        while self.mesh.iter().any(|queue| !queue.is_empty()) {
            (0..WORKERS).for_each(|worker| self.deliver(worker));
        }
        self.pass(self.now.plus_ms(600_000));
        for worker in &self.workers {
            assert!(worker.is_at_rest(), "something is left");
            assert_eq!((worker.waiting(), worker.connections(), worker.buffered_bytes()), (0, 0, 0));
        }
        assert_eq!(self.shared.connections(), 0);
    }
}

/// The head of a dispatch whose client waits for 100 (Continue), or does not.
const EXPECTS: &[u8] =
    b"POST /warm-start HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 90\r\n\r\n";

/// Random facts. With `fin` a FIN has certainly arrived; without it, one may have.
fn facts(bytes: &mut Bytes<'_>, fin: bool) -> TcpFacts {
    let byte = bytes.byte();
    TcpFacts {
        alive: byte & 7 != 7,
        unacked_bytes: if byte & 8 == 0 { 0 } else { u64::from(bytes.byte()) },
        rtt_us: u32::from(byte >> 4) << (byte & 7),
        fin: fin || byte & 0x10 != 0,
    }
}
