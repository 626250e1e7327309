//! Complete requests through the broker core, with an engine that sends everything and acknowledges it at once.

use super::{POLL, dispatch_request};
use ahash::RandomState;
use pilotlight::broker::Broker;
use pilotlight::broker::contract::Side;
use pilotlight::broker::io::{ConnId, Input, Output, SendConfirm, TcpFacts};
use pilotlight::broker::settings::{Confirm, ConnectionLimit, MatchOrder, Settings, TokenMode};
use pilotlight::broker::time::Time;
use pilotlight::broker::token::Secrets;
use pilotlight::workers::hints::Hints;
use std::collections::VecDeque;

/// Runners that hold a poll.
const RUNNERS: u32 = 100;
const SUPERVISOR: ConnId = ConnId { slot: RUNNERS, generation: 1 };

/// Dispatches that each find a poll, and the runners' next polls.
pub fn matches(confirm: Confirm, count: usize) {
    let mut engine = Engine::new(confirm);
    let mut runners: Vec<ConnId> = (0..RUNNERS).map(|slot| ConnId { slot, generation: 1 }).collect();
    runners.iter().for_each(|conn| engine.poll(*conn, true));
    engine.accept(SUPERVISOR);
    let dispatch = dispatch_request();
    for at in 0..count {
        let runner = &mut runners[at % RUNNERS as usize];
        engine.receive(SUPERVISOR, &dispatch);
        // With `read`, a runner proves its run by closing, so each poll needs a new connection.
        let fresh = confirm == Confirm::Read;
        runner.generation += u32::from(fresh);
        engine.poll(*runner, fresh);
    }
    assert_eq!(engine.broker.counters().warm, count as u64);
}

/// Cold dispatches.
pub fn cold(count: usize) {
    let mut engine = Engine::new(Confirm::Write);
    engine.accept(SUPERVISOR);
    let dispatch = dispatch_request();
    (0..count).for_each(|_| engine.receive(SUPERVISOR, &dispatch));
    assert_eq!(engine.broker.counters().answered_false(), count as u64);
}

/// The core, and facts for it.
struct Engine {
    broker: Broker<Hints>,
    facts: VecDeque<Input<'static>>,
    now: Time,
}

impl Engine {
    fn new(confirm: Confirm) -> Engine {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let broker = Broker::new(0, settings(confirm), hasher, Hints::default());
        Engine { broker, facts: VecDeque::new(), now: Time::from_ms(1_000) }
    }

    fn accept(&mut self, conn: ConnId) {
        self.handle(Input::Accepted { conn, side: Side::Runner });
    }

    fn poll(&mut self, conn: ConnId, fresh: bool) {
        if fresh {
            self.accept(conn);
        }
        self.receive(conn, POLL);
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.now = self.now.plus_us(20);
        self.handle(Input::Received { conn, bytes });
        if self.broker.next_deadline().is_some_and(|at| at <= self.now) {
            self.broker.tick(self.now);
            self.carry_out();
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.broker.handle(self.now, input);
        self.carry_out();
        while let Some(fact) = self.facts.pop_front() {
            self.broker.handle(self.now, fact);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            let Output::Send { conn, confirm, .. } = output else { continue };
            self.facts.push_back(Input::Sent { conn });
            match confirm {
                SendConfirm::None => {}
                SendConfirm::Acked => self.facts.push_back(Input::Acked { conn }),
                SendConfirm::Closed => {
                    let facts = Some(TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 100, fin: false });
                    self.facts.push_back(Input::PeerClosed { conn, facts });
                }
            }
        }
    }
}

/// The defaults, except for the order: the runners are served in turn.
fn settings(confirm: Confirm) -> Settings {
    Settings {
        connection_timeout_ms: 30_000,
        keepalive_ms: 300_000,
        connections: ConnectionLimit::of(100_000, 1),
        keys_max: 100_000,
        body_bytes_max: 10 << 20,
        head_bytes_max: 16 << 10,
        request_timeout_ms: 30_000,
        idle_timeout_ms: 60_000,
        preconnect_timeout_ms: 80_000,
        write_timeout_ms: 10_000,
        match_order: MatchOrder::Oldest,
        confirm,
        ack_timeout_ms: 300,
        read_timeout_ms: 1_000,
        dispatch_timeout_ms: 2_000,
        attempts_max: 3,
        guard_ms: 500,
        shutdown_time_ms: 5_000,
        linger_ms: 1_000,
        pipeline_bytes_max: 64 << 10,
        events: false,
        token_mode: TokenMode::Off,
        token_secrets: Secrets::default(),
        tokens_max: 16,
        dispatch_on_runner_side: true,
        dispatch_from_anyone: true,
        connections_per_address_max: u32::MAX,
        polls_per_key_max: usize::MAX,
        polls_per_deployment_max: usize::MAX,
        buffered_bytes_max: 128 << 20,
    }
}
