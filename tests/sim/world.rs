//! The world: production workers on one thread, their clock, the links between them, and their clients.

mod checks;

use super::engine::{NoWake, SimEngine, Sockets, close_remaining};
use super::net::{End, Event, LinkId, Net, Us};
use super::oracle::{Cordon, Oracle};
use super::plan::{AdminAct, Plan, When};
use super::runners::Runner;
use super::supervisors::{Stranger, Supervisor};
use super::tally::Tally;
use ahash::RandomState;
use pilotlight::broker::Broker;
use pilotlight::broker::report::{Allowance, Command, KeyPage, Selector, WorkerReport};
use pilotlight::broker::time::Time;
use pilotlight::workers::hints::Hints;
use pilotlight::workers::mesh::{Address, Mail, Mailbox, mailbox};
use pilotlight::workers::worker::Worker;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Instant;

pub type Shared = Rc<RefCell<Sim>>;

/// The state that actors and engines share.
pub struct Sim {
    pub net: Net,
    pub plan: Plan,
    pub oracle: Oracle,
    pub sockets: Vec<Sockets>,
    /// The broker's clock in the current turn.
    pub turn_now: Us,
    /// Clients begin no new request.
    pub over: bool,
    /// When clients will give up their polls, for the latest 16 polls.
    pub ends: VecDeque<Us>,
    mends: Vec<(Us, LinkId)>,
}

impl Sim {
    /// Records when a client will give up its poll.
    pub fn poll_ends(&mut self, at: Us) {
        self.ends.push_back(at);
        if self.ends.len() > 16 {
            self.ends.pop_front();
        }
    }

    /// A future moment at which a dispatch arrives at the end of a poll or of its guard.
    pub fn worst_moment(&mut self) -> Option<Us> {
        let now = self.net.now;
        let coming: Vec<Us> = self.ends.iter().copied().filter(|at| *at > now).collect();
        if coming.is_empty() {
            return None;
        }
        let at = self.net.rng.pick(&coming);
        self.net.tally.count("fault: a dispatch at a poll's end");
        let guard = self.plan.settings.guard_ms * 1_000;
        let early = self.net.rng.pick(&[0, guard, 2 * guard]) + self.net.rng.magnitude(4_000);
        Some((at + 2_000).saturating_sub(early).max(now))
    }

    /// Drops the packets to one end of a link for a while.
    pub fn cut_for(&mut self, link: LinkId, end: End, us: Us) {
        self.net.cut(link, end);
        let at = self.net.now + us;
        self.mends.push((at, link));
        self.net.at(at, Event::Actor(usize::MAX));
    }

    fn mend(&mut self) {
        let now = self.net.now;
        let net = &mut self.net;
        self.mends.retain(|(at, link)| {
            if now >= *at {
                net.mend(*link);
            }
            now < *at
        });
    }
}

enum Actor {
    Runner(Runner),
    Supervisor(Supervisor),
    Stranger(Stranger),
}

/// A worker and its links to the others.
struct WorkerSlot {
    worker: Option<Worker<SimEngine>>,
    address: Address,
    /// Messages that this worker sent, by receiver.
    outgoing: Vec<Mailbox>,
    /// Messages on their way to this worker, by sender.
    on_the_way: Vec<VecDeque<Mail>>,
    last_arrival: Vec<Us>,
    has_mail: bool,
    scheduled: Option<Us>,
    stalled_until: Us,
    /// The worker's clock, which never goes back.
    now: Us,
    /// Successive turns after which the worker's deadline had already passed.
    overdue_turns: u32,
}

/// A correct worker handles in its turn everything that is due.
const OVERDUE_TURNS_MAX: u32 = 1_000;

/// A worker's answer to a command.
type Receipt = (usize, WorkerReport);

impl WorkerSlot {
    fn stall_on_offer(&mut self, index: usize, sim: &mut Sim) {
        if !sim.net.rng.chance(sim.plan.faults.stall_on_offer) {
            return;
        }
        let settings = &sim.plan.settings;
        let patience = settings.read_timeout_ms.max(settings.ack_timeout_ms) * 1_000;
        let stall = sim.net.rng.below(patience * 3 / 2);
        self.stalled_until = sim.net.now + stall;
        sim.net.tally.count("fault: a worker stalls after an offer");
        sim.oracle.trace.say(sim.net.now, || format!("worker {index} stalls for {stall} us"));
    }
}

pub struct World {
    shared: Shared,
    workers: Vec<WorkerSlot>,
    actors: Vec<Actor>,
    hints: Hints,
    hasher: RandomState,
    /// How far the broker's clock is ahead of the network's.
    clock_offset: Us,
    receipts: mpsc::Receiver<Receipt>,
    receipt_to: mpsc::Sender<Receipt>,
    asked: Vec<VecDeque<AdminAct>>,
    finished: bool,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> World {
        let mut plan = Plan::draw(seed);
        let workers = plan.workers;
        let net = Net::new(plan.rng.fork(), workers);
        let oracle = Oracle::new(&plan, trace);
        let hasher = RandomState::with_seeds(seed, 2, 3, 4);
        let hints = Hints::default();
        let sockets = (0..workers).map(Sockets::new).collect();
        let settings = plan.settings.clone();
        let sim = Sim {
            net,
            plan,
            oracle,
            sockets,
            turn_now: 0,
            over: false,
            ends: VecDeque::new(),
            mends: Vec::new(),
        };
        let shared = Rc::new(RefCell::new(sim));
        let new_slot = |index| {
            let broker = Broker::new(index, settings.clone(), hasher.clone(), hints.clone());
            let engine = SimEngine { worker: index, shared: shared.clone(), scratch: Vec::new() };
            let (address, own) = mailbox(Arc::new(NoWake));
            let (peers, outgoing) = (0..workers).map(|_| mailbox(Arc::new(NoWake))).unzip();
            WorkerSlot {
                worker: Some(Worker::new(index, broker, engine, own, peers, Instant::now())),
                address,
                outgoing,
                on_the_way: (0..workers).map(|_| VecDeque::new()).collect(),
                last_arrival: vec![0; workers],
                has_mail: false,
                scheduled: None,
                stalled_until: 0,
                now: 0,
                overdue_turns: 0,
            }
        };
        let workers: Vec<WorkerSlot> = (0..workers).map(new_slot).collect();
        let actors = populate(&mut shared.borrow_mut());
        let (receipt_to, receipts) = mpsc::channel();
        World {
            asked: workers.iter().map(|_| VecDeque::new()).collect(),
            shared,
            workers,
            actors,
            hints,
            hasher,
            clock_offset: 0,
            receipts,
            receipt_to,
            finished: false,
        }
    }

    /// Runs to the end. Returns the tally, or the first violation.
    pub fn run(&mut self) -> Result<Tally, String> {
        let busy_us = self.shared.borrow().plan.busy_us;
        let longest = {
            let settings = &self.shared.borrow().plan.settings;
            [
                settings.connection_timeout_ms + settings.guard_ms,
                settings.request_timeout_ms,
                settings.idle_timeout_ms,
                settings.preconnect_timeout_ms,
                settings.write_timeout_ms + settings.linger_ms,
                settings.dispatch_timeout_ms + settings.shutdown_time_ms,
            ]
            .into_iter()
            .sum::<u64>()
                * 1_000
        };
        let cool_until = busy_us + 12_000_000;
        let last = cool_until + 2 * longest + 30_000_000;
        loop {
            let next = self.shared.borrow().net.next_at();
            let now = self.shared.borrow().net.now;
            if !self.finished && next.is_none_or(|at| at > cool_until) {
                self.finish();
                continue;
            }
            if next.is_none() || now > last {
                break;
            }
            self.step();
            if let Some(fault) = self.shared.borrow_mut().oracle.fault.take() {
                return Err(fault);
            }
        }
        self.check_rest()
    }

    pub fn story(&self) -> String {
        self.shared
            .try_borrow()
            .map_or_else(|_| "(lost with the panic)".into(), |sim| sim.oracle.trace.story())
    }

    fn step(&mut self) {
        let event = self.shared.borrow_mut().net.next();
        match event {
            Some(Event::Worker(index)) => self.worker_event(index),
            Some(Event::Actor(actor)) => self.actor_event(actor),
            Some(Event::Mail { from, to }) => self.mail_event(from, to),
            Some(Event::Admin(index)) => self.admin_event(index),
            Some(Event::ClockJump) => self.clock_jumps(),
            _ => {}
        }
        self.notify_ends();
    }

    /// Notifies the workers and actors whose sockets changed.
    fn notify_ends(&mut self) {
        let mut ready = 0u64;
        {
            let sim = &mut *self.shared.borrow_mut();
            if sim.net.now >= sim.plan.busy_us {
                sim.over = true;
            }
            for (link, end) in std::mem::take(&mut sim.net.changed_ends) {
                let Sim { net, sockets, .. } = sim;
                match end {
                    End::Broker => {
                        let index = net.links[link].worker;
                        sockets[index].mark_ready(link);
                        ready |= 1 << index;
                    }
                    End::Client => {
                        let reaction = 1 + net.rng.magnitude(1_000);
                        let actor = net.links[link].actor;
                        net.after(reaction, Event::Actor(actor));
                    }
                }
            }
        }
        for index in 0..self.workers.len() {
            if ready & 1 << index != 0 {
                self.schedule(index);
            }
        }
    }

    /// Schedules a worker's next turn.
    fn schedule(&mut self, index: usize) {
        let offset = self.clock_offset;
        let sim = &mut *self.shared.borrow_mut();
        let this = &mut self.workers[index];
        let Some(worker) = &this.worker else { return };
        let now = sim.net.now;
        let deadline = worker.next_deadline().map(|at| at.0.saturating_sub(offset));
        let mail = this.has_mail.then_some(now);
        let Some(at) = [sim.sockets[index].ready_at(&sim.net), deadline, mail].into_iter().flatten().min()
        else {
            return;
        };
        let latency = 1 + sim.net.rng.magnitude(100);
        let at = (at.max(now) + latency).max(this.stalled_until);
        if this.scheduled.is_none_or(|known| at < known) {
            this.scheduled = Some(at);
            sim.net.at(at, Event::Worker(index));
        }
    }

    fn worker_event(&mut self, index: usize) {
        let offset = self.clock_offset;
        let this = &mut self.workers[index];
        let turn_now = {
            let sim = &mut *self.shared.borrow_mut();
            let now = sim.net.now;
            if this.scheduled != Some(now) {
                return;
            }
            this.scheduled = None;
            if now < this.stalled_until {
                this.scheduled = Some(this.stalled_until);
                sim.net.at(this.stalled_until, Event::Worker(index));
                return;
            }
            if sim.net.rng.chance(sim.plan.faults.stall) {
                this.stalled_until = now + sim.net.rng.magnitude(sim.plan.faults.stall_max);
                this.scheduled = Some(this.stalled_until);
                sim.net.at(this.stalled_until, Event::Worker(index));
                let until = this.stalled_until;
                sim.net.tally.count("fault: a worker stalls");
                sim.oracle.trace.say(now, || format!("worker {index} stalls for {} us", until - now));
                return;
            }
            // The worker read its clock a little before the turn.
            let lag = sim.net.rng.magnitude(200);
            this.now = this.now.max((now + offset).saturating_sub(lag));
            sim.turn_now = this.now;
            sim.oracle.tally.count("turns");
            sim.sockets[index].start(&mut sim.net, &sim.plan);
            this.now
        };
        let Some(worker) = &mut this.worker else { return };
        this.has_mail = false;
        let offered = worker.broker().counters().attempts;
        worker.turn(Time(turn_now));
        let is_overdue = worker.next_deadline().is_some_and(|at| at.0 <= turn_now);
        this.overdue_turns = if is_overdue { this.overdue_turns + 1 } else { 0 };
        if this.overdue_turns > OVERDUE_TURNS_MAX {
            let sim = &mut *self.shared.borrow_mut();
            sim.oracle.fail(format!("worker {index} takes turns without end: its deadline has passed"));
        }
        if worker.broker().counters().attempts > offered {
            this.stall_on_offer(index, &mut self.shared.borrow_mut());
        }
        self.after_turn(index, turn_now);
        self.schedule(index);
    }

    fn after_turn(&mut self, index: usize, now: Us) {
        self.receive_receipts();
        self.carry_mail(index);
        self.check(index, now);
        self.act_on_attempts();
        let this = &mut self.workers[index];
        if this.worker.as_ref().is_some_and(Worker::is_shut_down) {
            let worker = this.worker.take();
            let sim = &mut *self.shared.borrow_mut();
            if let Some(worker) = worker {
                checks::sum_up(worker.broker().counters(), &mut sim.oracle.tally);
            }
            close_remaining(&mut sim.sockets[index], &mut sim.net);
            sim.oracle.trace.say(sim.net.now, || format!("worker {index} has shut down and ends"));
        }
    }

    /// Sends the commands that are timed to arrive during a delivery.
    fn act_on_attempts(&mut self) {
        let sim = &mut *self.shared.borrow_mut();
        let attempts = sim.oracle.tally.get("attempts");
        for (index, (when, _)) in sim.plan.admin.iter_mut().enumerate() {
            if let When::Attempts(count) = *when
                && attempts >= count
            {
                let soon = sim.net.rng.magnitude(1_000);
                *when = When::At(sim.net.now + soon);
                sim.net.after(soon, Event::Admin(index));
            }
        }
    }

    /// Puts the worker's messages on their way.
    fn carry_mail(&mut self, from: usize) {
        let sim = &mut *self.shared.borrow_mut();
        for to in 0..self.workers.len() {
            while let Some(mail) = self.workers[from].outgoing[to].take() {
                let slow = sim.net.rng.chance(sim.plan.faults.slow_mail);
                sim.net.tally.add("fault: a message between workers is slow", slow.into());
                let takes = match slow {
                    true => sim.net.rng.below(sim.plan.faults.slow_mail_max),
                    false => sim.net.rng.magnitude(20),
                };
                let at = sim.net.now + 1 + takes;
                // A channel keeps each sender's order.
                let at = at.max(self.workers[to].last_arrival[from]);
                self.workers[to].last_arrival[from] = at;
                self.workers[to].on_the_way[from].push_back(mail);
                sim.net.at(at, Event::Mail { from, to });
            }
        }
    }

    fn mail_event(&mut self, from: usize, to: usize) {
        if let Some(mail) = self.workers[to].on_the_way[from].pop_front() {
            self.workers[to].address.send(mail);
            self.workers[to].has_mail = true;
            self.schedule(to);
        }
    }

    fn actor_event(&mut self, actor: usize) {
        let sim = &mut *self.shared.borrow_mut();
        sim.mend();
        match self.actors.get_mut(actor) {
            Some(Actor::Runner(runner)) => runner.wake(sim),
            Some(Actor::Supervisor(supervisor)) => supervisor.wake(sim),
            Some(Actor::Stranger(stranger)) => stranger.wake(sim),
            None => {}
        }
    }

    fn admin_event(&mut self, index: usize) {
        let act = self.shared.borrow().plan.admin[index].1.clone();
        let command = {
            let sim = &mut *self.shared.borrow_mut();
            sim.oracle.trace.say(sim.net.now, || format!("the operator: {act:?}"));
            let deployment = |key: &usize| Selector::Deployment(sim.plan.keys[*key].deployment.clone());
            let node = |node: &usize| Selector::Node(format!("node-{node}"));
            match &act {
                AdminAct::CordonNode(index) => Command::Cordon(node(index)),
                AdminAct::UncordonNode(index) => Command::Uncordon(node(index)),
                AdminAct::CordonDeployment(key) => Command::Cordon(deployment(key)),
                AdminAct::UncordonDeployment(key) => Command::Uncordon(deployment(key)),
                AdminAct::Report => Command::Report {
                    keys: Some(KeyPage::default()),
                    dispatch_events: Some(Allowance { any: 3, traced: 2 }),
                },
                AdminAct::ShutDown => Command::ShutDown,
            }
        };
        for index in 0..self.workers.len() {
            self.command_sent(index, &act);
            let replies = self.receipt_to.clone();
            let reply = Box::new(move |report| drop(replies.send((index, report))));
            self.asked[index].push_back(act.clone());
            self.workers[index].address.send(Mail::Command { command: command.clone(), reply });
            self.workers[index].has_mail = true;
            self.schedule(index);
        }
    }

    /// A command is on its way: it may be in force from now on.
    fn command_sent(&mut self, index: usize, act: &AdminAct) {
        let view = &mut self.shared.borrow_mut().oracle.workers[index];
        match *act {
            AdminAct::CordonNode(node) => view.cordons_maybe.push(Cordon::Node(node)),
            AdminAct::CordonDeployment(key) => view.cordons_maybe.push(Cordon::Key(key)),
            AdminAct::UncordonNode(_) | AdminAct::UncordonDeployment(_) => view.cordons_surely.clear(),
            AdminAct::ShutDown => view.shutdown_requested = true,
            AdminAct::Report => {}
        }
    }

    /// The receipt of a command arrived: it is in force from now on.
    fn receive_receipts(&mut self) {
        while let Ok((index, report)) = self.receipts.try_recv() {
            let sim = &mut *self.shared.borrow_mut();
            let Some(act) = self.asked[index].pop_front() else {
                return sim.oracle.fail("a command has two receipts");
            };
            if report.worker != index {
                sim.oracle.fail("a receipt names another worker");
            }
            let (now, net_now) = (sim.turn_now, sim.net.now);
            let view = &mut sim.oracle.workers[index];
            match act {
                AdminAct::CordonNode(node) => view.cordoned(Cordon::Node(node)),
                AdminAct::CordonDeployment(key) => view.cordoned(Cordon::Key(key)),
                AdminAct::UncordonNode(node) => view.uncordoned(Cordon::Node(node), net_now),
                AdminAct::UncordonDeployment(key) => view.uncordoned(Cordon::Key(key), net_now),
                AdminAct::ShutDown => {
                    view.shutdown_began = Some(now);
                    sim.net.tally.add("fault: a shutdown during a delivery", (report.claimed > 0).into());
                }
                AdminAct::Report => {}
            }
        }
    }

    fn clock_jumps(&mut self) {
        {
            let sim = &mut *self.shared.borrow_mut();
            let by = sim.net.rng.magnitude(60_000_000);
            sim.net.tally.count("fault: the clock jumps");
            self.clock_offset += by;
            sim.oracle.trace.say(sim.net.now, || format!("the broker's clock jumps by {by} us"));
        }
        for index in 0..self.workers.len() {
            self.schedule(index);
        }
    }

    /// Ends all clients.
    fn finish(&mut self) {
        self.finished = true;
        let sim = &mut *self.shared.borrow_mut();
        sim.over = true;
        sim.oracle.trace.say(sim.net.now, || "all clients end".into());
        for actor in &mut self.actors {
            match actor {
                Actor::Runner(runner) => runner.finish(sim),
                Actor::Supervisor(supervisor) => supervisor.finish(sim),
                Actor::Stranger(stranger) => stranger.finish(sim),
            }
        }
    }
}

fn populate(sim: &mut Sim) -> Vec<Actor> {
    let mut actors = Vec::new();
    for _ in 0..sim.plan.runners {
        actors.push(Actor::Runner(Runner::new(sim, actors.len())));
    }
    for _ in 0..sim.plan.supervisors {
        actors.push(Actor::Supervisor(Supervisor::new(sim, actors.len())));
    }
    for _ in 0..sim.plan.strangers {
        actors.push(Actor::Stranger(Stranger::new(sim, actors.len())));
    }
    for index in 0..sim.plan.admin.len() {
        if let When::At(at) = sim.plan.admin[index].0 {
            sim.net.at(at, Event::Admin(index));
        }
    }
    if sim.plan.faults.clock_jump {
        let at = sim.net.rng.below(sim.plan.busy_us);
        sim.net.at(at, Event::ClockJump);
    }
    actors
}
