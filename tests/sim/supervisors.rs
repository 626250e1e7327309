//! Supervisors, which dispatch runs and expect one answer for each; and strangers, which send garbage.

use super::client::Client;
use super::net::{End, Event, Us};
use super::oracle::{Kind, Run};
use super::world::Sim;
use std::collections::VecDeque;

pub struct Supervisor {
    me: usize,
    client: Option<Client>,
    /// Runs dispatched on this connection and not answered yet.
    asked: VecDeque<usize>,
    left: u64,
    next_at: Us,
    /// The mishap of the current dispatch, and when it happens.
    mishap: Option<(Us, u64)>,
    frozen_until: Us,
    last_close: bool,
}

impl Supervisor {
    pub fn new(sim: &mut Sim, me: usize) -> Supervisor {
        let left = sim.plan.dispatches / sim.plan.supervisors as u64 + 1;
        let next_at = sim.net.rng.magnitude(sim.plan.busy_us / 2);
        sim.net.at(next_at, Event::Actor(me));
        Supervisor {
            me,
            client: None,
            asked: VecDeque::new(),
            left,
            next_at,
            mishap: None,
            frozen_until: 0,
            last_close: false,
        }
    }

    pub fn wake(&mut self, sim: &mut Sim) {
        if sim.net.now < self.frozen_until {
            return;
        }
        self.apply_mishap(sim);
        self.listen(sim);
        if self.asked.is_empty() && sim.net.now >= self.next_at && self.left > 0 && !sim.over {
            self.dispatch(sim);
        }
    }

    fn listen(&mut self, sim: &mut Sim) {
        let Some(client) = &mut self.client else { return };
        client.turn(sim);
        let mut close = false;
        while let Some(response) = client.response() {
            close |= response.close;
            let Some(run) = self.asked.pop_front() else {
                sim.oracle.fail("a supervisor read an answer without a dispatch");
                return;
            };
            match response.body.as_slice() {
                b"{\"didWarmStart\":true}" => sim.oracle.supervisor_read(run, true, &sim.net),
                b"{\"didWarmStart\":false}" => sim.oracle.supervisor_read(run, false, &sim.net),
                _ if response.status == 503 && sim.plan.bytes_scarce() => close = true,
                _ => sim.oracle.fail(format!("run {run}'s dispatch is answered {}", response.status)),
            }
        }
        if close || client.ended(sim) {
            client.close(sim);
            self.client = None;
            self.asked.clear();
        }
        if self.asked.is_empty() && self.next_at == Us::MAX {
            let pause = sim.net.rng.magnitude(sim.plan.busy_us / 8);
            self.next_at = sim.net.now + pause;
            if sim.net.rng.chance(sim.plan.faults.worst_moment) {
                self.next_at = sim.worst_moment().unwrap_or(self.next_at);
            }
            sim.net.at(self.next_at, Event::Actor(self.me));
        }
    }

    fn dispatch(&mut self, sim: &mut Sim) {
        self.next_at = Us::MAX;
        if self.last_close || sim.net.rng.chance(0.1) {
            self.hang_up(sim);
        }
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(sim, self.me, true),
        };
        let several = if sim.net.rng.chance(sim.plan.faults.pipelined) { 3 } else { 1 };
        for _ in 0..several.min(self.left) {
            self.left -= 1;
            let key = sim.net.rng.index(sim.plan.keys.len());
            let run = new_run(sim, key);
            self.last_close = sim.net.rng.chance(0.1);
            let request = request(sim, run, self.last_close);
            client.ask(sim, Kind::Dispatch { run }, self.last_close, &request);
            self.asked.push_back(run);
            let me = self.me;
            let link = client.link;
            sim.oracle.trace.say(sim.net.now, || {
                format!("supervisor {me} dispatches run {run} of key {key} on link {link}")
            });
            if self.last_close {
                break;
            }
        }
        self.client = Some(client);
        if sim.net.rng.chance(sim.plan.faults.supervisor) {
            let at = sim.net.now + sim.net.rng.magnitude(3_000_000);
            self.mishap = Some((at, sim.net.rng.below(7)));
            sim.net.at(at, Event::Actor(self.me));
        }
    }

    fn apply_mishap(&mut self, sim: &mut Sim) {
        let now = sim.net.now;
        let (Some((at, what)), Some(client)) = (self.mishap, &mut self.client) else { return };
        if now < at {
            return;
        }
        self.mishap = None;
        sim.net.tally.count("fault: a supervisor's mishap");
        match what {
            0 => return self.hang_up(sim),
            1 => client.abort(sim),
            2 if client.all_written() => {
                sim.net.shutdown(client.link, End::Client);
                self.last_close = true;
            }
            3 => client.read_slowly(1 + sim.net.rng.index(20), sim.net.rng.magnitude(50_000)),
            4 => {
                self.frozen_until = now + sim.net.rng.magnitude(3_000_000);
                sim.net.at(self.frozen_until, Event::Actor(self.me));
                return;
            }
            5 => {
                let us = sim.net.rng.magnitude(3_000_000);
                sim.cut_for(client.link, End::Client, us);
            }
            _ => sim.net.inject_reset(client.link),
        }
        if what == 1 {
            self.client = None;
            self.asked.clear();
        }
    }

    fn hang_up(&mut self, sim: &mut Sim) {
        if let Some(client) = self.client.take() {
            client.close(sim);
        }
        self.asked.clear();
        self.last_close = false;
        if self.next_at == Us::MAX {
            sim.net.after(1, Event::Actor(self.me));
        }
    }

    pub fn finish(&mut self, sim: &mut Sim) {
        self.hang_up(sim);
    }
}

fn new_run(sim: &mut Sim, key: usize) -> usize {
    let run = sim.oracle.runs.len();
    let max = sim.plan.message_bytes_max;
    let pad = if sim.plan.narrow { sim.net.rng.below(max) } else { sim.net.rng.magnitude(max) } as usize;
    let spec = &sim.plan.keys[key];
    let message = format!(
        "{{\"version\":\"1\",\"run\":{{\"id\":\"x\",\"friendlyId\":\"run_{run}\",\"machine\":{{\"cpu\":{},\"memory\":{}}}}},\
         \"deployment\":{{\"friendlyId\":\"{}\"}},\"backgroundWorker\":{{\"version\":\"{}\"}},\"pad\":\"{}\"}}",
        spec.cpu.1,
        spec.memory.1,
        spec.deployment,
        spec.version,
        "p".repeat(pad)
    );
    sim.oracle.runs.push(Run::new(key, message.into_bytes()));
    run
}

fn request(sim: &mut Sim, run: usize, close: bool) -> Vec<u8> {
    let message = sim.oracle.runs[run].message.clone();
    let body = [b"{\"dequeuedMessage\":", message.as_slice(), b"}"].concat();
    let connection = if close { "Connection: close\r\n" } else { "" };
    let expect = if sim.net.rng.chance(0.1) { "Expect: 100-continue\r\n" } else { "" };
    let head = format!(
        "POST /warm-start HTTP/1.1\r\nhost: broker\r\ncontent-type: application/json\r\n{connection}{expect}"
    );
    let mut out = head.into_bytes();
    if sim.net.rng.chance(0.2) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let len = 1 + sim.net.rng.magnitude(rest.len() as u64 - 1) as usize;
            out.extend_from_slice(format!("{len:x}\r\n").as_bytes());
            out.extend_from_slice(&rest[..len]);
            out.extend_from_slice(b"\r\n");
            rest = &rest[len..];
        }
        out.extend_from_slice(b"0\r\n\r\n");
    } else {
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
    }
    out
}

/// A client that does not follow the protocol.
pub struct Stranger {
    me: usize,
    client: Option<Client>,
    until: Us,
}

impl Stranger {
    pub fn new(sim: &mut Sim, me: usize) -> Stranger {
        let until = sim.net.rng.magnitude(sim.plan.busy_us);
        sim.net.at(until, Event::Actor(me));
        Stranger { me, client: None, until }
    }

    pub fn wake(&mut self, sim: &mut Sim) {
        if let Some(client) = &mut self.client {
            client.turn(sim);
            while client.response().is_some() {}
        }
        if sim.net.now < self.until {
            return;
        }
        let patience = sim.net.rng.magnitude(sim.plan.busy_us / 4);
        self.until = sim.net.now + patience + 1;
        sim.net.at(self.until, Event::Actor(self.me));
        if let Some(client) = self.client.take() {
            if sim.net.rng.chance(0.3) {
                client.abort(sim)
            } else {
                client.close(sim)
            }
            return;
        }
        if sim.over {
            self.until = Us::MAX;
            return;
        }
        let dispatch = sim.net.rng.chance(0.5);
        let mut client = Client::connect(sim, self.me, dispatch);
        let garbage = garbage(sim);
        if !garbage.is_empty() {
            client.ask(sim, Kind::Garbage, false, &garbage);
        }
        self.client = Some(client);
    }

    pub fn finish(&mut self, sim: &mut Sim) {
        if let Some(client) = self.client.take() {
            client.close(sim);
        }
        self.until = Us::MAX;
    }
}

fn garbage(sim: &mut Sim) -> Vec<u8> {
    let rng = &mut sim.net.rng;
    let len = rng.magnitude(40_000) as usize;
    let poll = b"GET /warm-start HTTP/1.1\r\nHost: a\r\nx-trigger-deployment-id: deployment_a\r\n";
    match rng.below(9) {
        // A connection without a byte.
        0 => Vec::new(),
        1 => (0..len).map(|_| rng.next() as u8).collect(),
        2 => b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1 + len / 100),
        3 => [poll.as_slice(), b"\r\n"].concat(),
        // A head without an end.
        4 => [poll.as_slice(), b"x: "].concat(),
        5 => [poll.as_slice(), &vec![b'y'; len]].concat(),
        6 => b"POST /warm-start HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{\"a\":".to_vec(),
        7 => format!(
            "POST /warm-start HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{{",
            1u64 << rng.below(40)
        )
        .into_bytes(),
        _ => b"GET /connect HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\ntrailing".to_vec(),
    }
}
