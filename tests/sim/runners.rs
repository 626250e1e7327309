//! Runners: processes that hold a poll, execute a run and poll again; and their mishaps.

use super::client::Client;
use super::net::{End, Event, Us};
use super::oracle::Kind;
use super::world::Sim;

/// A runner's mishap.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// The process stops and continues later; its kernel does not notice.
    Freeze(Us),
    /// The client closes its connection.
    Close,
    /// The client resets its connection.
    Reset,
    /// The process dies: its kernel closes.
    Kill,
    /// It half-closes and keeps reading, or closes later: with a reset if a run has arrived in between.
    HalfClose(Option<Us>),
    /// The host disappears without a packet.
    Vanish,
    /// Packets from it, acknowledgements too, are lost for a while.
    Mute(Us),
    /// Packets to it are lost for a while.
    Deaf(Us),
    /// It reads a few bytes at a time.
    SlowRead(usize, Us),
    /// It polls again on another connection and closes this one late.
    Twin(Us),
    /// A middlebox resets the connection.
    Injected,
}

impl Mishap {
    fn name(self) -> &'static str {
        match self {
            Mishap::Freeze(_) => "fault: a runner freezes",
            Mishap::Close => "fault: a runner closes",
            Mishap::Reset => "fault: a runner resets",
            Mishap::Kill => "fault: a runner dies",
            Mishap::HalfClose(_) => "fault: a runner half-closes",
            Mishap::Vanish => "fault: a runner's machine vanishes",
            Mishap::Mute(_) => "fault: packets from a runner are lost for a while",
            Mishap::Deaf(_) => "fault: packets to a runner are lost for a while",
            Mishap::SlowRead(..) => "fault: a runner reads slowly",
            Mishap::Twin(_) => "fault: a runner polls again and closes the old connection late",
            Mishap::Injected => "fault: a runner's connection is reset by the network",
        }
    }
}

enum State {
    /// Executes a run, or backs off.
    Away {
        until: Us,
    },
    Polling {
        client: Client,
        connects: usize,
        abort_at: Us,
    },
}

pub struct Runner {
    me: usize,
    key: usize,
    node: usize,
    state: State,
    /// A connection opened early, or kept from the last poll.
    spare: Option<Client>,
    /// Old connections that it closes late.
    lingering: Vec<(Client, Us)>,
    frozen_until: Us,
    on_response: Option<Mishap>,
    on_poll: Option<(Us, Mishap)>,
}

impl Runner {
    pub fn new(sim: &mut Sim, me: usize) -> Runner {
        let key = sim.net.rng.index(sim.plan.keys.len());
        let node = sim.net.rng.index(sim.plan.nodes);
        let until = sim.net.rng.magnitude(sim.plan.busy_us / 4);
        sim.net.at(until, Event::Actor(me));
        Runner {
            me,
            key,
            node,
            state: State::Away { until },
            spare: None,
            lingering: Vec::new(),
            frozen_until: 0,
            on_response: None,
            on_poll: None,
        }
    }

    pub fn wake(&mut self, sim: &mut Sim) {
        let now = sim.net.now;
        if now < self.frozen_until {
            return;
        }
        self.lingering.retain(|(client, at)| {
            let over = now >= *at;
            if over {
                client.close(sim);
            }
            !over
        });
        if let Some(spare) = &mut self.spare {
            spare.turn(sim);
            if spare.ended(sim) {
                spare.close(sim);
                self.spare = None;
            }
        }
        match &self.state {
            State::Away { until } if now >= *until && !sim.over => self.poll(sim),
            State::Away { .. } => {}
            State::Polling { .. } => self.polling(sim),
        }
    }

    fn poll(&mut self, sim: &mut Sim) {
        let now = sim.net.now;
        let faults = &sim.plan.faults;
        let (on_response, on_poll, pipelined) =
            (faults.runner_on_response, faults.runner_on_poll, faults.pipelined);
        let timeout = sim.plan.settings.connection_timeout_ms * 1_000;
        // The client's timer starts before its connect, and rounds differently.
        let abort_at = now + timeout - sim.net.rng.below(1_000).min(timeout);
        let mut client = match self.spare.take() {
            Some(spare) => spare,
            None => Client::connect(sim, self.me, false),
        };
        self.on_response = sim.net.rng.chance(on_response).then(|| mishap(sim));
        self.on_poll =
            sim.net.rng.chance(on_poll).then(|| (now + sim.net.rng.magnitude(timeout), mishap(sim)));
        if let Some((at, _)) = self.on_poll {
            sim.net.at(at, Event::Actor(self.me));
        }
        let mut connects = 0;
        if sim.net.rng.chance(0.2) {
            client.ask(sim, Kind::Connect, false, b"GET /connect HTTP/1.1\r\nHost: broker\r\n\r\n");
            connects = 1;
        }
        let close = sim.net.rng.chance(0.2);
        let request = self.request(sim, close);
        let kind = Kind::Poll { key: self.key, node: self.node };
        client.ask(sim, kind, close, &request);
        if sim.net.rng.chance(pipelined) {
            let len = 1 + sim.net.rng.magnitude(3_000) as usize;
            client.ask(sim, Kind::Garbage, false, &vec![b'x'; len]);
            sim.net.tally.count("fault: garbage after a poll");
        }
        sim.net.at(abort_at, Event::Actor(self.me));
        sim.poll_ends(abort_at);
        self.state = State::Polling { client, connects, abort_at };
    }

    fn request(&self, sim: &mut Sim, close: bool) -> Vec<u8> {
        let key = &sim.plan.keys[self.key];
        let connection = if close { "Connection: close\r\n" } else { "" };
        format!(
            "GET /warm-start HTTP/1.1\r\nhost: broker:8080\r\n{connection}\
             x-trigger-workload-controller-id: runner-{}\r\nx-trigger-deployment-id: {}\r\n\
             x-trigger-deployment-version: {}\r\nx-trigger-machine-cpu: {}\r\n\
             x-trigger-machine-memory: {}\r\nx-trigger-worker-instance-name: node-{}\r\n\r\n",
            self.me, key.deployment, key.version, key.cpu.0, key.memory.0, self.node
        )
        .into_bytes()
    }

    fn polling(&mut self, sim: &mut Sim) {
        let now = sim.net.now;
        let State::Polling { client, .. } = &self.state else { return };
        if let Some((at, mishap)) = self.on_poll
            && now >= at
        {
            self.on_poll = None;
            return self.apply_mishap(sim, mishap);
        }
        if client.has_something(sim)
            && let Some(mishap) = self.on_response.take()
        {
            return self.apply_mishap(sim, mishap);
        }
        let State::Polling { client, connects, abort_at } = &mut self.state else { return };
        client.turn(sim);
        while let Some(response) = client.response() {
            if *connects > 0 {
                *connects -= 1;
                if response.status != 200 || !response.body.starts_with(b"{\"connectionTimeoutMs\"") {
                    sim.oracle.fail("/connect has a wrong answer");
                }
                continue;
            }
            if response.status != 200 {
                sim.oracle.fail(format!("a poll is answered {}", response.status));
                break;
            }
            sim.oracle.runner_read(client.link, self.me, self.key, &response.body, &sim.net);
            return self.run(sim, response.close);
        }
        if client.ended(sim) {
            client.close(sim);
            let backoff = 1_000 + sim.net.rng.magnitude(200_000);
            self.away(sim, backoff);
            return;
        }
        if now >= *abort_at {
            client.close(sim);
            self.away(sim, 0);
            if sim.net.rng.chance(0.5) && !sim.over {
                self.spare = Some(Client::connect(sim, self.me, false));
            }
        }
    }

    /// Executes a run; closes the connection or keeps it for the next poll.
    fn run(&mut self, sim: &mut Sim, close: bool) {
        let takes = sim.net.rng.magnitude(500_000);
        let State::Polling { client, .. } = self.away(sim, takes) else { return };
        if !close && !client.spoiled && sim.net.rng.chance(0.5) {
            self.spare = Some(client);
        } else if sim.net.rng.chance(0.8) {
            client.close(sim);
        } else {
            self.close_late(sim, client, 2_000);
        }
    }

    fn close_late(&mut self, sim: &mut Sim, client: Client, within: Us) {
        let at = sim.net.now + sim.net.rng.magnitude(within);
        sim.net.at(at, Event::Actor(self.me));
        self.lingering.push((client, at));
    }

    fn away(&mut self, sim: &mut Sim, us: Us) -> State {
        let until = sim.net.now + us;
        sim.net.at(until, Event::Actor(self.me));
        std::mem::replace(&mut self.state, State::Away { until })
    }

    fn apply_mishap(&mut self, sim: &mut Sim, mishap: Mishap) {
        let me = self.me;
        let State::Polling { client, .. } = &mut self.state else { return };
        let link = client.link;
        sim.oracle.trace.say(sim.net.now, || format!("runner {me} on link {link}: {mishap:?}"));
        sim.net.tally.count(mishap.name());
        match mishap {
            Mishap::Freeze(us) => {
                self.frozen_until = sim.net.now + us;
                sim.net.at(self.frozen_until, Event::Actor(me));
            }
            Mishap::Close => {
                client.close(sim);
                self.away(sim, 0);
            }
            Mishap::Reset => {
                client.abort(sim);
                self.away(sim, 100);
            }
            Mishap::Kill => {
                self.finish(sim);
                self.away(sim, 50_000);
            }
            Mishap::HalfClose(then_closes) => {
                sim.net.shutdown(link, End::Client);
                if let Some(us) = then_closes {
                    let State::Polling { client, .. } = self.away(sim, 0) else { return };
                    self.close_late(sim, client, us);
                }
            }
            Mishap::Vanish => {
                for link in self.links() {
                    sim.net.cut(link, End::Client);
                    sim.net.cut(link, End::Broker);
                }
                self.spare = None;
                self.lingering.clear();
                self.away(sim, 50_000);
            }
            Mishap::Mute(us) => sim.cut_for(link, End::Broker, us),
            Mishap::Deaf(us) => sim.cut_for(link, End::Client, us),
            Mishap::SlowRead(bytes, every) => client.read_slowly(bytes, every),
            Mishap::Twin(us) => {
                let State::Polling { client, .. } = self.away(sim, 0) else { return };
                self.close_late(sim, client, us);
            }
            Mishap::Injected => sim.net.inject_reset(link),
        }
        // After any mishap there may be bytes to read or write.
        sim.net.after(1, Event::Actor(me));
    }

    fn links(&self) -> Vec<usize> {
        let polling = match &self.state {
            State::Polling { client, .. } => Some(client.link),
            State::Away { .. } => None,
        };
        let spare = self.spare.iter().map(|client| client.link);
        polling.into_iter().chain(spare).chain(self.lingering.iter().map(|(client, _)| client.link)).collect()
    }

    /// The process ends: its kernel closes all connections.
    pub fn finish(&mut self, sim: &mut Sim) {
        for link in self.links() {
            sim.net.close(link, End::Client);
        }
        self.spare = None;
        self.lingering.clear();
        self.state = State::Away { until: Us::MAX };
    }
}

fn mishap(sim: &mut Sim) -> Mishap {
    let rng = &mut sim.net.rng;
    let kind = if rng.chance(0.5) { sim.plan.faults.favourite } else { rng.next() };
    match kind % 12 {
        0 | 1 => Mishap::Freeze(rng.magnitude(4_000_000)),
        2 => Mishap::Close,
        3 => Mishap::Reset,
        4 => Mishap::Kill,
        5 => Mishap::HalfClose(rng.chance(0.5).then(|| rng.magnitude(100_000))),
        6 => Mishap::Vanish,
        7 => Mishap::Mute(rng.magnitude(2_000_000)),
        8 => Mishap::Deaf(rng.magnitude(2_000_000)),
        9 => Mishap::SlowRead(1 + rng.magnitude(2_000) as usize, rng.magnitude(100_000)),
        10 => Mishap::Twin(rng.magnitude(1_000_000)),
        _ => Mishap::Injected,
    }
}
