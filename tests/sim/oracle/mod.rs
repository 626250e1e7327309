//! The naive model: what must hold, judged from the sockets' own truth and from what was told.
//!
//! It sees every fact that an engine hands to its core and everything that the core asks of it, and
//! looks into both kernels of every link, which the core can't.

use super::net::{End, LinkId, Net, Us};
use super::plan::Plan;
use super::trace::Trace;
use pilotlight::broker::contract::Side;
use pilotlight::broker::io::TcpFacts;
use pilotlight::broker::settings::{Confirm, MatchOrder, Settings};
use std::rc::Rc;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect,
    Poll {
        key: usize,
        node: usize,
    },
    Dispatch {
        run: usize,
    },
    /// Anything may become of it.
    Garbage,
}

/// One request of a connection's script.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub kind: Kind,
    /// Where it ends in the client's stream.
    pub end: u64,
    /// The client asked for the connection to end behind it.
    pub close: bool,
}

/// What a connection does, as its client's script and the facts told so far have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Nothing,
    Held {
        key: usize,
        node: usize,
    },
    Claimed {
        attempt: usize,
    },
    Awaiting {
        run: usize,
    },
    Answering,
    /// Its last response is out; nothing is owed any more.
    Closing,
    /// Its bytes broke the rules: whatever becomes of it is well.
    Lawless,
}

pub struct Conn {
    pub core: usize,
    pub doing: Doing,
    /// Since when (the core's clock).
    pub since: Us,
    /// The same by the network's clock.
    since_net: Us,
    /// Order in which polls were held.
    pub order: u64,
    script: Vec<Ask>,
    next: usize,
    received: u64,
    /// The first byte of the request that is incomplete.
    begun: Option<Us>,
    last_close: bool,
    told_fin: bool,
    told_reset: bool,
    open: bool,
    /// Bytes of an interim response are on their way.
    interim: bool,
}

pub struct Attempt {
    pub run: usize,
    pub link: LinkId,
    pub core: usize,
    pub at: Us,
    /// Where the response ends in the broker's stream.
    pub stream_end: u64,
    sent: bool,
    fin_before_sent: bool,
    /// The last facts that were told.
    facts: Option<TcpFacts>,
    acked: bool,
    pub ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Confirmed,
    Released,
}

pub struct Run {
    pub key: usize,
    pub message: Rc<Vec<u8>>,
    pub home: usize,
    /// When the core had all of it, by its clock and by the network's.
    pub since: Option<(Us, Us)>,
    pub answer: Option<bool>,
    pub answered_at: Us,
    pub attempts: Vec<usize>,
    /// Runner processes that read all of it, and on which link.
    pub got_by: Vec<(usize, LinkId)>,
    /// What the supervisor's process read.
    pub heard: Option<bool>,
    /// The supervisor's connection ended before the answer.
    pub abandoned: bool,
}

/// What was seen, for the summary.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub dispatches: u64,
    pub hits: u64,
    pub misses: u64,
    pub attempts: u64,
    pub released: u64,
    /// Answered false, yet a runner read it: at the deadline, or from a connection that was reset
    /// under a process which had what it had.
    pub false_though_delivered: u64,
    /// Confirmed, and never read: only in the modes that don't ask for it, or behind a half-close.
    pub true_unread: u64,
    pub polls: u64,
    pub turns: u64,
    pub facts: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.dispatches += other.dispatches;
        self.hits += other.hits;
        self.misses += other.misses;
        self.attempts += other.attempts;
        self.released += other.released;
        self.false_though_delivered += other.false_though_delivered;
        self.true_unread += other.true_unread;
        self.polls += other.polls;
        self.turns += other.turns;
        self.facts += other.facts;
    }
}

/// One core, as the control plane left it.
#[derive(Clone, Debug, Default)]
pub struct CoreView {
    /// Cordons that may be in force, and those that certainly are.
    pub cordons_maybe: Vec<Cordon>,
    pub cordons_surely: Vec<Cordon>,
    pub drain_asked: bool,
    pub drain_began: Option<Us>,
    /// When a cordon was last lifted (the network's clock).
    pub uncordoned_at: Us,
    pub now: Us,
}

impl CoreView {
    pub fn cordoned(&mut self, cordon: Cordon) {
        self.cordons_surely.push(cordon);
        self.cordons_maybe.push(cordon);
    }

    pub fn uncordoned(&mut self, cordon: Cordon, net_now: Us) {
        self.cordons_surely.retain(|other| *other != cordon);
        self.cordons_maybe.retain(|other| *other != cordon);
        self.uncordoned_at = net_now;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    Node(usize),
    Key(usize),
}

pub struct Oracle {
    pub settings: Settings,
    pub keys_scarce: bool,
    /// Which keys share a deployment.
    deployments: Vec<String>,
    pub conns: Vec<Option<Conn>>,
    scripts: Vec<Vec<Ask>>,
    pub attempts: Vec<Attempt>,
    pub runs: Vec<Run>,
    pub cores: Vec<CoreView>,
    orders: u64,
    open: usize,
    pub fault: Option<String>,
    pub tally: Tally,
    pub trace: Trace,
}

/// Timers are kept in whole milliseconds and round up.
pub const TICK_US: Us = 1_000;

impl Oracle {
    pub fn new(plan: &Plan, trace: bool) -> Oracle {
        Oracle {
            settings: plan.settings.clone(),
            keys_scarce: plan.settings.keys_max < plan.keys.len(),
            deployments: plan.keys.iter().map(|key| key.deployment.clone()).collect(),
            conns: Vec::new(),
            scripts: Vec::new(),
            attempts: Vec::new(),
            runs: Vec::new(),
            cores: vec![CoreView::default(); plan.cores],
            orders: 0,
            open: 0,
            fault: None,
            tally: Tally::default(),
            trace: Trace::new(trace),
        }
    }

    /// The first violation stays.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.fault.get_or_insert(text.into());
    }

    /// A client will write this request; `end` is where it ends in its stream.
    pub fn ask(&mut self, link: LinkId, ask: Ask) {
        if self.scripts.len() <= link {
            self.scripts.resize(link + 1, Vec::new());
        }
        self.scripts[link].push(ask);
        if let Some(Some(conn)) = self.conns.get_mut(link) {
            conn.script.push(ask);
        }
    }

    fn conn(&mut self, link: LinkId) -> &mut Conn {
        self.conns[link].as_mut().expect("the engine told of its accept")
    }

    fn ms(&self, ms: u64) -> Us {
        ms * 1_000
    }

    // What is told to the core.

    pub fn told_accepted(&mut self, core: usize, link: LinkId, now: Us) {
        if self.conns.len() <= link {
            self.conns.resize_with(link + 1, || None);
        }
        self.open += 1;
        self.conns[link] = Some(Conn {
            core,
            doing: Doing::Nothing,
            since: now,
            since_net: 0,
            order: 0,
            script: self.scripts.get(link).cloned().unwrap_or_default(),
            next: 0,
            received: 0,
            begun: None,
            last_close: false,
            told_fin: false,
            told_reset: false,
            open: true,
            interim: false,
        });
    }

    pub fn told_bytes(&mut self, link: LinkId, count: usize, now: Us, net: &Net) {
        self.conn(link).received += count as u64;
        self.advance(link, now, net);
    }

    /// Begins the next request of the script if all of it is there.
    fn advance(&mut self, link: LinkId, now: Us, net: &Net) {
        let conn = self.conn(link);
        if conn.doing != Doing::Nothing {
            return;
        }
        let begins = conn.next.checked_sub(1).map_or(0, |last| conn.script[last].end);
        if conn.received <= begins {
            return;
        }
        conn.begun.get_or_insert(now);
        let Some(&Ask { kind, end, close }) = conn.script.get(conn.next) else {
            conn.doing = Doing::Lawless;
            return;
        };
        if kind == Kind::Garbage {
            conn.doing = Doing::Lawless;
            return;
        }
        if conn.received < end {
            return;
        }
        conn.next += 1;
        conn.begun = None;
        conn.since = now;
        conn.since_net = net.now;
        conn.last_close = close;
        match kind {
            Kind::Poll { key, node } => {
                self.orders += 1;
                self.tally.polls += 1;
                let order = self.orders;
                let conn = self.conn(link);
                conn.doing = Doing::Held { key, node };
                conn.order = order;
            }
            Kind::Dispatch { run } => {
                conn.doing = Doing::Awaiting { run };
                let core = conn.core;
                self.runs[run].since = Some((now, net.now));
                self.runs[run].home = core;
                self.tally.dispatches += 1;
            }
            Kind::Connect => conn.doing = Doing::Answering,
            Kind::Garbage => {}
        }
    }

    pub fn told_sent(&mut self, link: LinkId, now: Us, net: &Net) {
        let confirm = self.settings.confirm;
        let conn = self.conn(link);
        match conn.doing {
            Doing::Claimed { attempt } => {
                self.attempts[attempt].sent = true;
                if confirm == Confirm::Write {
                    self.proved(link, attempt, now, net);
                }
            }
            Doing::Answering => self.request_done(link, now, net),
            Doing::Nothing if conn.interim => conn.interim = false,
            _ => {}
        }
    }

    pub fn told_acked(&mut self, link: LinkId, now: Us, net: &Net) {
        if let Doing::Claimed { attempt } = self.conn(link).doing
            && self.settings.confirm == Confirm::Ack
        {
            self.attempts[attempt].acked = true;
            self.proved(link, attempt, now, net);
        }
    }

    pub fn told_fin(&mut self, link: LinkId, facts: Option<TcpFacts>, now: Us, net: &Net) {
        let conn = self.conn(link);
        conn.told_fin = true;
        if let Doing::Claimed { attempt } = conn.doing {
            self.attempts[attempt].fin_before_sent |= !self.attempts[attempt].sent || facts.is_none();
            if let Some(facts) = facts {
                self.told_facts(link, facts, now, net);
            }
        }
    }

    pub fn told_reset(&mut self, link: LinkId) {
        self.conn(link).told_reset = true;
    }

    pub fn told_facts(&mut self, link: LinkId, facts: TcpFacts, now: Us, net: &Net) {
        let conn = self.conn(link);
        let told_fin = conn.told_fin;
        let Doing::Claimed { attempt } = conn.doing else { return };
        let record = &mut self.attempts[attempt];
        record.facts = Some(facts);
        let all = facts.alive && record.sent && facts.unacked_bytes == 0 && !record.fin_before_sent;
        if all && (told_fin || self.settings.confirm == Confirm::Ack) {
            self.proved(link, attempt, now, net);
        }
    }

    /// The core has now been told what the mode asks for. Is it so?
    fn proved(&mut self, link: LinkId, attempt: usize, now: Us, net: &Net) {
        let Attempt { stream_end, run, .. } = self.attempts[attempt];
        let client = net.socket(link, End::Client);
        let broker = net.socket(link, End::Broker);
        let half_closed = client.fin && client.life == super::net::Life::Held;
        let so = match self.settings.confirm {
            Confirm::Read => client.read >= stream_end || (half_closed && client.received >= stream_end),
            Confirm::Ack => client.received >= stream_end && broker.acked >= stream_end,
            Confirm::Write => broker.out.len() as u64 >= stream_end,
        };
        if !so {
            self.fail(format!(
                "the engine reported proof that run {run} was delivered on link {link}, and it was not"
            ));
        }
        self.attempts[attempt].ended = Some(Ended::Confirmed);
        if self.settings.confirm != Confirm::Read {
            self.request_done(link, now, net);
        }
    }

    fn request_done(&mut self, link: LinkId, now: Us, net: &Net) {
        let conn = self.conn(link);
        conn.doing = if conn.last_close { Doing::Closing } else { Doing::Nothing };
        conn.since = now;
        self.advance(link, now, net);
    }

    // What the core asks for.

    pub fn sends(&mut self, link: LinkId, payload: &[u8], now: Us, net: &Net) {
        let written = net.socket(link, End::Broker).out.len() as u64;
        let conn = self.conn(link);
        if !conn.open {
            return self.fail(format!("something is sent on link {link}, which is closed"));
        }
        let status = status_of(payload);
        match conn.doing {
            Doing::Lawless => {}
            Doing::Held { key, node } => {
                if status != 200 {
                    return self.fail(format!("the poll on link {link} is answered {status}"));
                }
                self.claims(link, key, node, payload, written, now, net);
            }
            Doing::Awaiting { run } => {
                let answer = match payload {
                    bytes if bytes.ends_with(b"\r\n\r\n{\"didWarmStart\":true}") => true,
                    bytes if bytes.ends_with(b"\r\n\r\n{\"didWarmStart\":false}") => false,
                    _ => {
                        return self
                            .fail(format!("run {run}'s dispatch is answered {status}, not a verdict"));
                    }
                };
                // A drain ends the connection behind its answer.
                conn.last_close |= find(payload, b"\r\nConnection: close\r\n").is_some();
                conn.doing = Doing::Answering;
                conn.since = now;
                self.answers(run, answer, now, net);
            }
            Doing::Answering if status == 200 => {}
            Doing::Nothing if status == 100 && conn.begun.is_some() => conn.interim = true,
            doing => self.fail(format!(
                "link {link} is sent a {status} while it is {doing:?}: {}",
                String::from_utf8_lossy(&payload[..payload.len().min(120)])
            )),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn claims(
        &mut self,
        link: LinkId,
        key: usize,
        node: usize,
        payload: &[u8],
        written: u64,
        now: Us,
        net: &Net,
    ) {
        let Some(run) = run_in(payload).filter(|run| *run < self.runs.len()) else {
            return self.fail(format!("link {link} is sent a run that nobody dispatched"));
        };
        let (run_key, message) = (self.runs[run].key, self.runs[run].message.clone());
        let head_end = find(payload, b"\r\n\r\n").map_or(0, |at| at + 4);
        if payload[head_end..] != message[..] {
            self.fail(format!("run {run} is not sent byte for byte"));
        }
        if run_key != key {
            self.fail(format!("run {run} of key {run_key} goes to a poll of key {key}"));
        }
        if let Some(wrong) = self.wrong_to_offer(run, now) {
            self.fail(format!("run {run} is offered to link {link} {wrong}"));
        }
        let core = self.conn(link).core;
        let view = &self.cores[core];
        if view.drain_began.is_some() {
            self.fail(format!("link {link} is offered run {run} while core {core} drains"));
        }
        if self.covered(&self.cores[core].cordons_surely, key, node) {
            self.fail(format!("link {link} is offered run {run} although it is cordoned"));
        }
        let order = self.conn(link).order;
        let held_since = self.conn(link).since;
        let latest = held_since + self.ms(self.settings.connection_timeout_ms - self.settings.guard_ms);
        if now >= latest {
            self.fail(format!("link {link} is offered run {run} in its last moments"));
        }
        let newest = self.settings.match_order == MatchOrder::Newest;
        let better = self
            .offerable(core, key, now, net)
            .find(|(_, other)| if newest { *other > order } else { *other < order });
        // What a lifted cordon lets in again comes in no order.
        if self.cores[core].uncordoned_at == 0
            && let Some((other, _)) = better
        {
            self.fail(format!("link {link} is offered run {run} although link {other} comes first"));
        }
        let attempt = self.attempts.len();
        self.attempts.push(Attempt {
            run,
            link,
            core,
            at: now,
            stream_end: written + payload.len() as u64,
            sent: false,
            fin_before_sent: false,
            facts: None,
            acked: false,
            ended: None,
        });
        self.runs[run].attempts.push(attempt);
        self.tally.attempts += 1;
        self.conn(link).doing = Doing::Claimed { attempt };
        self.trace.say(net.now, || format!("core {core} offers run {run} to the poll on link {link}"));
    }

    /// Why a run must not be offered to any poll now.
    fn wrong_to_offer(&self, run: usize, now: Us) -> Option<String> {
        let record = &self.runs[run];
        let Some((since, _)) = record.since else { return Some("before its dispatch is whole".into()) };
        let deadline = since + self.ms(self.settings.dispatch_timeout_ms);
        if now >= deadline {
            return Some("after its deadline".into());
        }
        if record.answer.is_some() && record.answered_at < deadline {
            return Some("after it was answered".into());
        }
        if record.attempts.len() >= usize::from(self.settings.attempts_max) {
            return Some("after as many attempts as are allowed".into());
        }
        let mut others = record.attempts.iter().map(|&at| &self.attempts[at]);
        let other = others.find(|attempt| attempt.ended != Some(Ended::Released))?;
        Some(format!("while link {} has it ({:?})", other.link, other.ended))
    }

    fn covered(&self, cordons: &[Cordon], key: usize, node: usize) -> bool {
        cordons.iter().any(|cordon| match *cordon {
            Cordon::Node(covered) => covered == node,
            Cordon::Key(covered) => self.deployments[covered] == self.deployments[key],
        })
    }

    /// Polls on `core` that certainly may be offered a run of `key` now: links and order.
    fn offerable<'a>(
        &'a self,
        core: usize,
        key: usize,
        now: Us,
        net: &'a Net,
    ) -> impl Iterator<Item = (LinkId, u64)> + 'a {
        let idle = !self.cores[core].drain_asked;
        self.conns.iter().enumerate().filter_map(move |(link, conn)| {
            let conn = conn.as_ref().filter(|conn| idle && conn.open && conn.core == core)?;
            let Doing::Held { key: held, node } = conn.doing else { return None };
            let fits = held == key
                && now < self.offered_until(conn, link, net)
                && !self.covered(&self.cores[core].cordons_maybe, held, node);
            fits.then_some((link, conn.order))
        })
    }

    /// A poll is offered runs at least until then.
    fn offered_until(&self, conn: &Conn, link: LinkId, net: &Net) -> Us {
        let guard = self.ms(self.settings.guard_ms);
        let correction = (4 * net.links[link].wire.delay).min(guard);
        (conn.since + self.ms(self.settings.connection_timeout_ms)).saturating_sub(guard + correction)
    }

    fn answers(&mut self, run: usize, answer: bool, now: Us, net: &Net) {
        let record = &mut self.runs[run];
        if record.answer.is_some() {
            return self.fail(format!("run {run} is answered twice"));
        }
        record.answer = Some(answer);
        record.answered_at = now;
        let home = record.home;
        self.trace.say(net.now, || format!("core {home} answers {answer} to run {run}"));
        let record = &self.runs[run];
        let since = record.since.map_or(0, |since| since.0);
        let confirmed = record.attempts.iter().any(|&at| self.attempts[at].ended == Some(Ended::Confirmed));
        if answer {
            self.tally.hits += 1;
            if !confirmed {
                self.fail(format!("run {run} is answered true, and no delivery is confirmed"));
            }
            return;
        }
        self.tally.misses += 1;
        if now >= since + self.ms(self.settings.dispatch_timeout_ms) {
            return;
        }
        if confirmed {
            return self.fail(format!("run {run} is answered false although its delivery is confirmed"));
        }
        if record.attempts.iter().any(|&at| self.attempts[at].ended.is_none()) {
            return self.fail(format!("run {run} is answered false while a poll has it"));
        }
        let tried_all = record.attempts.len() >= usize::from(self.settings.attempts_max);
        if tried_all || self.keys_scarce || self.cores[home].drain_asked {
            return;
        }
        // A poll that waited all the while must have been found.
        let (key, dispatched) = (record.key, record.since.map_or(0, |since| since.1));
        let missed = (0..self.cores.len()).find_map(|core| {
            let clock = self.cores[core].now.max(now);
            let mut waiting = self.offerable(core, key, clock, net);
            waiting.find(|&(link, _)| core == home || self.findable_since(link) < dispatched)
        });
        if let Some((link, _)) = missed {
            self.fail(format!("run {run} is answered false although a poll waits on link {link}"));
        }
    }

    /// Since when others can find the poll on `link` (the network's clock).
    fn findable_since(&self, link: LinkId) -> Us {
        self.conns[link]
            .as_ref()
            .map_or(Us::MAX, |conn| conn.since_net.max(self.cores[conn.core].uncordoned_at))
    }

    pub fn closes(&mut self, link: LinkId, reset: bool, held_back: bool, now: Us, net: &Net) {
        if !self.conn(link).open {
            return self.fail(format!("link {link} is closed twice"));
        }
        let at_limit = self.open > self.settings.connections_max;
        self.open -= 1;
        let conn = self.conn(link);
        conn.open = false;
        let (doing, core, since) = (conn.doing, conn.core, conn.since);
        let ended = conn.told_fin || conn.told_reset;
        let (told_reset, begun) = (conn.told_reset, conn.begun);
        let fresh = conn.received == 0;
        let view = &self.cores[core];
        let drain_us = self.ms(self.settings.drain_time_ms);
        let drained = match view.drain_began {
            Some(began) => now >= began + drain_us,
            None => view.drain_asked && drain_us == 0,
        };
        let settings = &self.settings;
        let past = |ms: u64| now >= since + ms * 1_000;
        let well = match doing {
            Doing::Lawless | Doing::Closing => true,
            Doing::Claimed { attempt } => {
                return self.claim_ends(attempt, reset, told_reset, held_back, now, net);
            }
            Doing::Held { key, node } => {
                let timeout = settings.connection_timeout_ms + settings.guard_ms;
                let no_room = now == since && self.keys_scarce;
                ended
                    || past(timeout)
                    || view.drain_asked
                    || no_room
                    || self.covered(&view.cordons_maybe, key, node)
            }
            Doing::Awaiting { run } => {
                self.runs[run].abandoned = true;
                told_reset
            }
            Doing::Answering => told_reset || past(settings.write_timeout_ms),
            Doing::Nothing if fresh => ended || drained || at_limit || past(settings.preconnect_timeout_ms),
            Doing::Nothing => match begun {
                _ if ended || drained || view.drain_asked => true,
                Some(begun) => now >= begun + settings.request_timeout_ms * 1_000,
                None => past(settings.idle_timeout_ms),
            },
        };
        if !well {
            self.fail(format!(
                "link {link} is closed {} us after it became {doing:?} (begun {begun:?}), and nothing called for it",
                now - since
            ));
        }
    }

    /// The core gives up a claimed poll, or says that it is done with it.
    fn claim_ends(
        &mut self,
        attempt: usize,
        reset: bool,
        told_reset: bool,
        held_back: bool,
        now: Us,
        net: &Net,
    ) {
        let record = &self.attempts[attempt];
        let (run, link, core) = (record.run, record.link, record.core);
        if record.ended == Some(Ended::Confirmed) {
            if reset {
                self.fail(format!("run {run} was delivered on link {link}, which is reset"));
            }
            return;
        }
        if !reset {
            return self
                .fail(format!("link {link} has run {run}, unconfirmed, and is closed without a reset"));
        }
        let settings = &self.settings;
        let waited = |ms: u64| now >= record.at + ms * 1_000;
        let deadline =
            self.runs[run].since.map_or(0, |since| since.0) + self.ms(settings.dispatch_timeout_ms);
        let told_end = told_reset || record.fin_before_sent || record.facts.is_some_and(|facts| !facts.alive);
        let why = match record.facts {
            _ if told_end => "its end",
            _ if now >= deadline => "the deadline",
            Some(facts) if record.sent && facts.unacked_bytes == 0 && waited(settings.read_timeout_ms) => {
                "it is not read"
            }
            Some(facts) if facts.unacked_bytes > 0 && waited(settings.ack_timeout_ms) => {
                "it is not acknowledged"
            }
            _ => {
                return self.fail(format!(
                    "run {run} is taken back from link {link} after {} us for no reason",
                    now - record.at
                ));
            }
        };
        let broker = net.socket(link, End::Broker);
        let acked = broker.acked >= record.stream_end;
        let proof = broker.alive()
            && acked
            && (settings.confirm == Confirm::Ack || broker.peer_fin)
            && !record.fin_before_sent;
        if proof && !told_end && !held_back && now < deadline {
            self.fail(format!("run {run} is taken back from link {link} although its delivery is proved"));
        }
        self.attempts[attempt].ended = Some(Ended::Released);
        self.tally.released += 1;
        self.trace.say(net.now, || format!("core {core} takes run {run} back from link {link}: {why}"));
    }

    // After every turn.

    /// What holds of `core` between two turns, at its time `now`. Answers the links of its held
    /// polls which must be found by others, by key.
    pub fn check_core(&mut self, core: usize, waiting: usize, connections: usize, now: Us, net: &Net) {
        self.cores[core].now = now;
        let (mut held, mut open) = (0, 0);
        let mut late = None;
        for (link, conn) in self.conns.iter().enumerate() {
            let Some(conn) = conn.as_ref().filter(|conn| conn.open && conn.core == core) else { continue };
            open += 1;
            held += usize::from(matches!(conn.doing, Doing::Held { .. } | Doing::Claimed { .. }));
            if let Some(due) = self.due(conn)
                && now >= due + TICK_US
            {
                late.get_or_insert((link, conn.doing, now - due));
            }
        }
        if let Some((link, doing, by)) = late {
            self.fail(format!("link {link} is still {doing:?}, {by} us after its time"));
        }
        if connections != open {
            self.fail(format!("core {core} counts {connections} connections, and there are {open}"));
        }
        let lawless = |conn: &&Conn| conn.core == core && conn.open && conn.doing == Doing::Lawless;
        let strays = self.conns.iter().flatten().filter(lawless).count();
        if waiting < held || waiting > held + strays {
            self.fail(format!("core {core} counts {waiting} polls, and there are {held}"));
        }
        let _ = net;
    }

    /// When the core must have done something about this connection.
    pub fn due(&self, conn: &Conn) -> Option<Us> {
        let settings = &self.settings;
        let after = |ms: u64| Some(conn.since + ms * 1_000);
        match conn.doing {
            Doing::Lawless | Doing::Closing => None,
            Doing::Held { .. } => after(settings.connection_timeout_ms + settings.guard_ms),
            Doing::Claimed { attempt } => {
                let run = &self.runs[self.attempts[attempt].run];
                Some(run.since?.0 + settings.dispatch_timeout_ms * 1_000)
            }
            Doing::Awaiting { .. } => after(settings.dispatch_timeout_ms),
            Doing::Answering => after(settings.write_timeout_ms),
            Doing::Nothing if conn.interim => None,
            Doing::Nothing if conn.received == 0 => after(settings.preconnect_timeout_ms),
            Doing::Nothing => match conn.begun {
                Some(begun) => Some(begun + settings.request_timeout_ms * 1_000),
                None => after(settings.idle_timeout_ms),
            },
        }
    }

    /// Keys of `core` for which a poll waits that others must be able to find.
    pub fn keys_to_be_found(&self, core: usize, net: &Net) -> Vec<usize> {
        let now = self.cores[core].now;
        (0..self.deployments.len())
            .filter(|key| self.offerable(core, *key, now, net).next().is_some())
            .collect()
    }

    // What the clients' processes see.

    pub fn runner_got(&mut self, link: LinkId, actor: usize, key: usize, body: &[u8], net: &Net) {
        let Some(run) = run_in(body).filter(|run| *run < self.runs.len()) else {
            return self.fail(format!("runner {actor} got something that is no run"));
        };
        if self.runs[run].key != key {
            self.fail(format!("runner {actor} of key {key} got run {run} of another"));
        }
        if *self.runs[run].message != body {
            self.fail(format!("runner {actor} got run {run} changed"));
        }
        self.trace.say(net.now, || format!("runner {actor} has read run {run} on link {link}"));
        self.runs[run].got_by.push((actor, link));
        // Others may have it only from connections that were taken back under them.
        let unreleased = |&&(_, link): &&(usize, LinkId)| {
            let attempt =
                self.attempts.iter().rev().find(|attempt| attempt.link == link && attempt.run == run);
            attempt.is_none_or(|attempt| attempt.ended != Some(Ended::Released))
        };
        if self.runs[run].got_by.iter().filter(unreleased).count() > 1 {
            self.fail(format!("run {run} was delivered to two runners"));
        }
    }

    pub fn supervisor_heard(&mut self, run: usize, answer: bool, net: &Net) {
        self.trace.say(net.now, || format!("run {run}'s supervisor has read {answer}"));
        if self.runs[run].heard.replace(answer).is_some() {
            self.fail(format!("run {run}'s supervisor heard twice"));
        }
        if self.runs[run].answer != Some(answer) {
            self.fail(format!("run {run}'s supervisor heard {answer}, which nobody answered"));
        }
    }

    /// When all is over: what the runs came to.
    pub fn conclude(&mut self) {
        for run in 0..self.runs.len() {
            let record = &self.runs[run];
            let live = |&&(_, link): &&(usize, LinkId)| {
                let mut attempts = record.attempts.iter().map(|&at| &self.attempts[at]);
                attempts.any(|attempt| attempt.link == link && attempt.ended == Some(Ended::Confirmed))
            };
            let confirmed_reads = record.got_by.iter().filter(live).count();
            match record.answer {
                Some(true) if confirmed_reads == 0 => self.tally.true_unread += 1,
                Some(false) if !record.got_by.is_empty() => self.tally.false_though_delivered += 1,
                _ => {}
            }
        }
    }

    pub fn side_of(&self, dispatch: bool, plan: &Plan) -> Side {
        if dispatch && plan.own_dispatch_listener { Side::Dispatch } else { Side::Runner }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub fn status_of(payload: &[u8]) -> u16 {
    let digits = payload.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The number of the run that is in these bytes.
pub fn run_in(bytes: &[u8]) -> Option<usize> {
    const BEFORE: &[u8] = b"\"friendlyId\":\"run_";
    let at = find(bytes, BEFORE)? + BEFORE.len();
    let digits: Vec<u8> = bytes[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

impl Oracle {
    /// The core means to run again in time for everything that it owes.
    pub fn check_deadline(&mut self, core: usize, next: Option<Us>) {
        let open = self.conns.iter().flatten().filter(|conn| conn.open && conn.core == core);
        let due = open.filter_map(|conn| self.due(conn)).min();
        if let Some(due) = due
            && next.is_none_or(|next| next > due + TICK_US)
        {
            self.fail(format!("core {core} would sleep until {next:?}, and something is due at {due}"));
        }
    }

    /// What connections may own for bytes that can't be used yet.
    pub fn check_memory(&mut self, core: usize, buffered: usize) {
        const ONE_READ: usize = 64 * 1024;
        let settings = &self.settings;
        let pipelined = 2 * (settings.pipeline_bytes_max.max(settings.head_bytes_max) + ONE_READ);
        let body = 2 * settings.body_bytes_max.max(ONE_READ);
        let allowed = |conn: &Conn| {
            let used = conn.next.checked_sub(1).map_or(0, |last| conn.script[last].end);
            match conn.doing {
                Doing::Lawless | Doing::Closing => pipelined + body,
                _ if conn.received == used => 0,
                Doing::Nothing => pipelined + body,
                _ => pipelined,
            }
        };
        let open = self.conns.iter().flatten().filter(|conn| conn.open && conn.core == core);
        let allowed: usize = open.map(allowed).sum();
        if buffered > allowed {
            self.fail(format!("core {core} owns {buffered} bytes of buffers, and needs {allowed} at most"));
        }
    }
}
