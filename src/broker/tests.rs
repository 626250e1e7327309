//! The core driven by hand: facts in, outputs out. What a real socket can't show is shown here:
//! stale ids, verdicts that come late, timers to the millisecond.

use super::Broker;
use super::contract::Side;
use super::io::{ConnId, CoreSet, HINT_KINDS, Input, MeshMessage, Output, SendConfirm, Shared, TcpFacts};
use super::report::{Command, CoreReport, KeyPage, Selector};
use super::settings::{Confirm, MatchOrder, Settings};
use super::time::Time;
mod watching;

use ahash::RandomState;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[derive(Clone, Default)]
struct OneCore(Rc<(RefCell<Vec<u64>>, Cell<usize>)>);

impl Shared for OneCore {
    fn buckets(&self) -> usize {
        64
    }
    fn announce(&self, bucket: usize, core: usize) {
        self.0.0.borrow_mut().resize(64 * HINT_KINDS, 0);
        self.0.0.borrow_mut()[bucket] |= 1 << core;
    }
    fn withdraw(&self, bucket: usize, core: usize) {
        self.0.0.borrow_mut()[bucket] &= !(1 << core);
    }
    fn holders(&self, bucket: usize) -> CoreSet {
        CoreSet(self.0.0.borrow().get(bucket).copied().unwrap_or(0))
    }
    fn open_connection(&self, connections_max: usize) -> bool {
        let open = self.0.1.get();
        self.0.1.set(if open < connections_max { open + 1 } else { open });
        open < connections_max
    }
    fn close_connection(&self) {
        self.0.1.set(self.0.1.get() - 1);
    }
}

fn settings() -> Settings {
    Settings {
        connection_timeout_ms: 30_000,
        keepalive_ms: 300_000,
        connections_max: 100,
        keys_max: 100,
        body_bytes_max: 1 << 20,
        head_bytes_max: 16 << 10,
        request_timeout_ms: 30_000,
        idle_timeout_ms: 60_000,
        preconnect_timeout_ms: 80_000,
        write_timeout_ms: 10_000,
        match_order: MatchOrder::Newest,
        confirm: Confirm::Read,
        ack_timeout_ms: 300,
        read_timeout_ms: 1_000,
        dispatch_timeout_ms: 2_000,
        attempts_max: 3,
        guard_ms: 500,
        drain_time_ms: 5_000,
        linger_ms: 1_000,
        pipeline_bytes_max: 64 << 10,
        events: true,
        dispatch_on_runner_side: true,
    }
}

/// What the engine would have been asked to do.
#[derive(Debug, PartialEq)]
enum Done {
    Sent(u32, String),
    Closed(u32),
    Aborted(u32),
    Shutdown(u32),
    Probed(u32),
    Offered { to: usize, attempts_left: u8 },
    Verdict { to: usize, delivered: bool, attempts_left: u8 },
    StopAccepting,
    Drained,
    Paused(u32),
    Resumed(u32),
}

struct Bench {
    broker: Broker<OneCore>,
    shared: OneCore,
    now: Time,
    done: Vec<Done>,
    messages: Vec<MeshMessage>,
    reports: Vec<CoreReport>,
    events: Vec<super::event::Event>,
    generations: Vec<u32>,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench::on_core(0, settings, OneCore::default())
    }

    fn on_core(core: usize, settings: Settings, shared: OneCore) -> Bench {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Bench {
            broker: Broker::new(core, settings, hasher, shared.clone()),
            shared,
            now: Time::from_ms(1_000),
            done: Vec::new(),
            messages: Vec::new(),
            reports: Vec::new(),
            events: Vec::new(),
            generations: Vec::new(),
        }
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generations[slot as usize] }
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Done> {
        self.broker.handle(self.now, input);
        self.drain();
        std::mem::take(&mut self.done)
    }

    fn drain(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            let done = match output {
                Output::Send { conn, payload, .. } => {
                    Done::Sent(conn.slot, String::from_utf8_lossy(payload.bytes()).into_owned())
                }
                Output::Close { conn } => Done::Closed(conn.slot),
                Output::Abort { conn } => Done::Aborted(conn.slot),
                Output::Shutdown { conn } => Done::Shutdown(conn.slot),
                Output::Probe { conn } => Done::Probed(conn.slot),
                Output::Pause { conn } => Done::Paused(conn.slot),
                Output::Resume { conn } => Done::Resumed(conn.slot),
                Output::StopAccepting => Done::StopAccepting,
                Output::Drained => Done::Drained,
                Output::Mesh { to, message } => {
                    self.messages.push(message.clone());
                    match message {
                        MeshMessage::Offer { offer, .. } => {
                            Done::Offered { to, attempts_left: offer.attempts_left }
                        }
                        MeshMessage::Verdict { delivered, attempts_left, .. } => {
                            Done::Verdict { to, delivered, attempts_left }
                        }
                    }
                }
                Output::Report(report) => {
                    self.reports.push(*report);
                    continue;
                }
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
            };
            self.done.push(done);
        }
    }

    /// Goes to `now + ms`, stopping at every deadline on the way.
    fn pass_ms(&mut self, ms: u64) -> Vec<Done> {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.broker.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.broker.tick(self.now);
            self.drain();
        }
        self.now = until;
        std::mem::take(&mut self.done)
    }

    fn accept(&mut self, slot: u32) {
        self.generations.resize(self.generations.len().max(slot as usize + 1), 0);
        self.generations[slot as usize] += 1;
        let conn = self.id(slot);
        let done = self.input(Input::Accepted { conn, side: Side::Runner });
        assert_eq!(done, []);
    }

    fn receive(&mut self, slot: u32, bytes: &[u8]) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Received { conn, bytes })
    }

    fn sent(&mut self, slot: u32) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Sent { conn })
    }

    fn fin(&mut self, slot: u32, facts: Option<TcpFacts>) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::PeerClosed { conn, facts })
    }

    fn reset(&mut self, slot: u32) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Reset { conn })
    }

    fn probed(&mut self, slot: u32, facts: TcpFacts) -> Vec<Done> {
        let conn = self.id(slot);
        self.input(Input::Probed { conn, facts })
    }

    fn poll(&mut self, slot: u32) {
        self.accept(slot);
        assert_eq!(self.receive(slot, POLL), []);
    }

    fn dispatch(&mut self, slot: u32) -> Vec<Done> {
        self.accept(slot);
        self.receive(slot, &dispatch("1"))
    }

    fn command(&mut self, command: Command) -> Vec<Done> {
        self.input(Input::Command(command))
    }
}

const POLL: &[u8] = b"GET /warm-start HTTP/1.1\r\nHost: b\r\nx-trigger-deployment-id: d\r\n\
    x-trigger-deployment-version: 1\r\nx-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 1\r\n\
    x-trigger-worker-instance-name: node-1\r\n\r\n";

const MESSAGE: &str = r#"{"deployment":{"friendlyId":"d"},"backgroundWorker":{"version":"VERSION"},"run":{"machine":{"cpu":5e-1,"memory":1.0}}}"#;

fn dispatch(version: &str) -> Vec<u8> {
    let body = format!(r#"{{"dequeuedMessage":{}}}"#, MESSAGE.replace("VERSION", version));
    format!("POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn run_response(close: bool) -> String {
    let message = MESSAGE.replace("VERSION", "1");
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n{message}",
        message.len()
    )
}

fn answer(slot: u32, did_warm_start: bool) -> Done {
    let verdict =
        super::http::response::verdict(did_warm_start, super::http::response::Persistence::KeepAlive);
    Done::Sent(slot, String::from_utf8(verdict.to_vec()).unwrap())
}

const CLEAN: TcpFacts = TcpFacts { alive: true, unacked_bytes: 0, rtt_us: 50, fin: false };

fn unacked(unacked_bytes: u64) -> TcpFacts {
    TcpFacts { unacked_bytes, ..CLEAN }
}

#[test]
fn read_is_true_at_the_clean_fin_and_not_before() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(true))]);
    assert_eq!(bench.sent(0), []);
    assert_eq!(bench.fin(0, Some(CLEAN)), [answer(1, true), Done::Closed(0)]);
    assert_eq!(bench.broker.counters().hits, 1);
}

#[test]
fn a_fin_with_bytes_unacknowledged_waits_for_what_follows() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.fin(0, Some(unacked(9))), []);
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(9)), []);
    assert_eq!(bench.pass_ms(2), [Done::Probed(0)]);
    let dead = TcpFacts { alive: false, ..CLEAN };
    assert_eq!(bench.probed(0, dead), [Done::Aborted(0), answer(1, false)]);
}

#[test]
fn a_fin_before_the_bytes_is_no_proof() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.fin(0, Some(CLEAN)), [Done::Aborted(0), answer(1, false)]);
}

#[test]
fn a_reset_passes_the_run_to_the_next_newest_poll() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    bench.poll(2);
    assert_eq!(bench.dispatch(3), [Done::Sent(2, run_response(true))]);
    assert_eq!(bench.reset(2), [Done::Aborted(2), Done::Sent(1, run_response(true))]);
    bench.sent(1);
    assert_eq!(bench.fin(1, Some(CLEAN)), [answer(3, true), Done::Closed(1)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn oldest_first_goes_round() {
    let mut bench = Bench::new(Settings { match_order: MatchOrder::Oldest, ..settings() });
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.dispatch(2), [Done::Sent(0, run_response(true))]);
}

#[test]
fn silence_is_given_up_at_the_ack_timeout_and_attempts_are_bounded() {
    let mut bench = Bench::new(settings());
    for slot in 0..4 {
        bench.poll(slot);
    }
    assert_eq!(bench.dispatch(4), [Done::Sent(3, run_response(true))]);
    let len = run_response(true).len() as u64;
    for slot in [3, 2, 1] {
        bench.sent(slot);
        assert_eq!(bench.pass_ms(299), []);
        assert_eq!(bench.pass_ms(1), [Done::Probed(slot)]);
        let done = bench.probed(slot, unacked(len));
        let next = if slot > 1 { Done::Sent(slot - 1, run_response(true)) } else { answer(4, false) };
        assert_eq!(done, [Done::Aborted(slot), next]);
    }
    assert_eq!(bench.broker.waiting(), 1, "the fourth was not tried");
    assert_eq!(bench.broker.counters().misses_unconfirmed, 1);
}

#[test]
fn frozen_is_acknowledged_but_unread_for_the_read_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(0)), []);
    assert_eq!(bench.pass_ms(699), []);
    assert_eq!(bench.pass_ms(1), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, unacked(0)), [Done::Aborted(0), answer(1, false)]);
    assert_eq!(bench.broker.counters().attempts_read_timeout, 1);
}

#[test]
fn progress_of_a_long_response_earns_more_time_up_to_the_dispatch_timeout() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    let mut left = 100;
    for _ in 0..6 {
        assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
        left -= 1;
        assert_eq!(bench.probed(0, unacked(left)), []);
    }
    // 1.8 s have passed; at 2 s both the claim and the dispatch are over, whichever comes first.
    let mut done = bench.pass_ms(200);
    done.sort_by_key(|done| matches!(done, Done::Aborted(_)));
    assert_eq!(done, [answer(1, false), Done::Aborted(0)]);
}

#[test]
fn ack_is_true_at_the_acknowledgement_and_keeps_the_connection() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(false))]);
    assert_eq!(bench.sent(0), []);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [answer(1, true)]);
    assert_eq!(bench.receive(0, POLL), [], "the same connection polls again");
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_poll_that_comes_before_its_acknowledgement_is_seen_waits_its_turn() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Ack, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.receive(0, POLL), []);
    let conn = bench.id(0);
    assert_eq!(bench.input(Input::Acked { conn }), [answer(1, true)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn write_is_true_when_the_kernel_took_the_bytes() {
    let mut bench = Bench::new(Settings { confirm: Confirm::Write, ..settings() });
    bench.poll(0);
    bench.dispatch(1);
    assert_eq!(bench.sent(0), [answer(1, true)]);
}

#[test]
fn the_guard_keeps_a_poll_in_its_last_moments_from_being_offered() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    assert_eq!(bench.pass_ms(29_000), [Done::Probed(0)], "one guard ahead, the round trip is measured");
    assert_eq!(bench.probed(0, TcpFacts { rtt_us: 50_000, ..CLEAN }), []);
    assert_eq!(bench.pass_ms(399), []);
    assert_eq!(bench.dispatch(1), [Done::Sent(0, run_response(true))]);

    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.pass_ms(29_000);
    bench.probed(0, TcpFacts { rtt_us: 50_000, ..CLEAN });
    bench.pass_ms(400);
    assert_eq!(bench.dispatch(1), [answer(1, false)], "two round trips earlier than the plain guard");
    assert_eq!(bench.broker.waiting(), 1, "still held: its client may yet get nothing in peace");
    assert_eq!(bench.pass_ms(1_099), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)], "older than the connection timeout: dead");
    assert_eq!(bench.broker.counters().polls_expired, 1);
}

#[test]
fn the_end_of_an_old_connection_leaves_a_newer_poll_of_the_same_runner_alone() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.poll(1);
    assert_eq!(bench.fin(0, None), [Done::Closed(0)]);
    assert_eq!(bench.dispatch(2), [Done::Sent(1, run_response(true))]);
}

#[test]
fn facts_of_an_earlier_user_of_the_slot_are_nobodys() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    let old = bench.id(0);
    bench.fin(0, None);
    bench.poll(0);
    for input in [
        Input::Reset { conn: old },
        Input::PeerClosed { conn: old, facts: None },
        Input::Received { conn: old, bytes: b"x" },
        Input::Sent { conn: old },
        Input::Acked { conn: old },
        Input::Probed { conn: old, facts: CLEAN },
    ] {
        assert_eq!(bench.input(input), []);
    }
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_run_goes_to_the_core_that_has_a_poll_and_its_verdict_comes_back() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_core(1, settings(), home.shared.clone());
    other.poll(0);
    assert_eq!(home.dispatch(0), [Done::Offered { to: 1, attempts_left: 3 }]);
    let message = home.messages.remove(0);
    assert_eq!(other.input(Input::Mesh { from: 0, message }), [Done::Sent(0, run_response(true))]);
    other.sent(0);
    let done = other.fin(0, Some(CLEAN));
    assert_eq!(done, [Done::Verdict { to: 0, delivered: true, attempts_left: 2 }, Done::Closed(0)]);
    let message = other.messages.remove(0);
    assert_eq!(home.input(Input::Mesh { from: 1, message }), [answer(0, true)]);
}

#[test]
fn a_hint_that_was_wrong_costs_one_message_and_a_late_verdict_changes_nothing() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_core(1, settings(), home.shared.clone());
    other.poll(0);
    home.dispatch(0);
    other.fin(0, None);
    let message = home.messages.remove(0);
    let done = other.input(Input::Mesh { from: 0, message });
    assert_eq!(done, [Done::Verdict { to: 0, delivered: false, attempts_left: 3 }]);
    let verdict = other.messages.remove(0);
    assert_eq!(home.input(Input::Mesh { from: 1, message: verdict.clone() }), [answer(0, false)]);
    home.sent(0);
    // The next dispatch on the same connection is not answered by the last one's verdict.
    other.poll(1);
    assert_eq!(home.receive(0, &dispatch("1")), [Done::Offered { to: 1, attempts_left: 3 }]);
    assert_eq!(home.input(Input::Mesh { from: 1, message: verdict }), []);
}

#[test]
fn an_offer_past_its_deadline_is_not_delivered() {
    let mut home = Bench::new(settings());
    let mut other = Bench::on_core(1, settings(), home.shared.clone());
    other.poll(0);
    home.dispatch(0);
    assert_eq!(home.pass_ms(2_000), [answer(0, false)], "a stalled core can't hold up the supervisor");
    other.pass_ms(2_000);
    let message = home.messages.remove(0);
    let done = other.input(Input::Mesh { from: 0, message });
    assert_eq!(done, [Done::Verdict { to: 0, delivered: false, attempts_left: 3 }]);
}

#[test]
fn requests_arrive_in_any_fragments() {
    let whole = dispatch("1");
    for cut in 1..whole.len() {
        let mut bench = Bench::new(Settings { confirm: Confirm::Write, ..settings() });
        bench.accept(0);
        assert_eq!(bench.receive(0, &POLL[..cut.min(POLL.len() - 1)]), []);
        assert_eq!(bench.receive(0, &POLL[cut.min(POLL.len() - 1)..]), []);
        bench.accept(1);
        assert_eq!(bench.receive(1, &whole[..cut]), []);
        assert_eq!(bench.receive(1, &whole[cut..]), [Done::Sent(0, run_response(false))], "cut at {cut}");
    }
    let mut bench = Bench::new(settings());
    bench.accept(0);
    for byte in &whole[..whole.len() - 1] {
        assert_eq!(bench.receive(0, &[*byte]), []);
    }
    assert_eq!(bench.receive(0, &whole[whole.len() - 1..]), [answer(0, false)]);
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    let two = [dispatch("1"), dispatch("2"), b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n".to_vec()].concat();
    assert_eq!(bench.receive(0, &two), [answer(0, false)]);
    assert_eq!(bench.sent(0), [answer(0, false)]);
    let done = bench.sent(0);
    assert!(matches!(&done[..], [Done::Sent(0, text)] if text.contains("connectionTimeoutMs")), "{done:?}");
}

#[test]
fn what_is_pipelined_behind_a_held_poll_waits_within_bounds() {
    let mut bench = Bench::new(Settings { pipeline_bytes_max: 100, confirm: Confirm::Write, ..settings() });
    bench.poll(0);
    assert_eq!(bench.receive(0, POLL), [Done::Paused(0)]);
    bench.dispatch(1);
    let done = bench.sent(0);
    assert_eq!(done, [answer(1, true), Done::Resumed(0)]);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_poll_pipelined_by_a_client_that_has_hung_up_is_not_held() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    bench.receive(0, &[&dispatch("1"), POLL].concat());
    assert_eq!(bench.fin(0, None), []);
    assert_eq!(bench.sent(0), [Done::Closed(0)]);
    assert_eq!(bench.broker.waiting(), 0);
}

#[test]
fn a_refusal_lingers_so_that_it_can_be_read_and_runs_nothing_behind_it() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    let done = bench.receive(0, &[b"GET / HTTP/1.1\r\n\r\n".to_vec(), dispatch("1")].concat());
    assert!(matches!(&done[..], [Done::Sent(0, text)] if text.starts_with("HTTP/1.1 400")), "{done:?}");
    assert_eq!(bench.sent(0), [Done::Shutdown(0)]);
    assert_eq!(bench.receive(0, &dispatch("1")), []);
    assert_eq!(bench.pass_ms(1_000), [Done::Closed(0)]);
    assert_eq!(bench.broker.counters().misses(), 0);
}

#[test]
fn silent_and_slow_connections_end_by_their_own_timeouts() {
    let mut bench = Bench::new(settings());
    bench.accept(0);
    bench.accept(1);
    bench.receive(1, b"GET /warm-start HT");
    bench.accept(2);
    bench.receive(2, &dispatch("1"));
    bench.sent(2);
    assert_eq!(bench.pass_ms(29_999), []);
    bench.receive(1, b"TP");
    assert_eq!(bench.pass_ms(1), [Done::Closed(1)], "from the first byte, not from the last");
    assert_eq!(bench.pass_ms(30_000), [Done::Closed(2)]);
    assert_eq!(bench.pass_ms(20_000), [Done::Closed(0)]);
    assert_eq!(bench.broker.connections(), 0);
}

#[test]
fn at_the_limit_the_oldest_silent_connection_makes_room() {
    let mut bench = Bench::new(Settings { connections_max: 3, ..settings() });
    bench.accept(0);
    bench.poll(1);
    bench.accept(2);
    bench.generations.push(1);
    let conn = bench.id(3);
    assert_eq!(bench.input(Input::Accepted { conn, side: Side::Runner }), [Done::Closed(0)]);
    assert_eq!(bench.receive(3, POLL), []);
    bench.receive(2, POLL);
    bench.generations.push(1);
    let conn = bench.id(4);
    let done = bench.input(Input::Accepted { conn, side: Side::Runner });
    assert_eq!(done, [Done::Closed(4)], "nobody is silent: the newcomer goes");
    assert_eq!(bench.broker.waiting(), 3);
}

#[test]
fn a_cordon_empties_a_node_and_holds_its_new_polls_back_until_it_is_lifted() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    let node = Selector::Instance("node-1".into());
    assert_eq!(bench.command(Command::Cordon(node.clone())), [Done::Closed(0)]);
    bench.poll(1);
    assert_eq!(bench.dispatch(2), [answer(2, false)]);
    bench.sent(2);
    assert_eq!(bench.command(Command::Uncordon(node)), []);
    assert_eq!(bench.receive(2, &dispatch("1")), [Done::Sent(1, run_response(true))]);
}

#[test]
fn a_drain_answers_false_finishes_claims_and_closes_polls_one_by_one() {
    let mut bench = Bench::new(settings());
    for slot in 0..3 {
        bench.poll(slot);
    }
    bench.dispatch(3);
    bench.sent(2);
    assert_eq!(bench.command(Command::Drain), [Done::StopAccepting]);
    bench.accept(4);
    let done = bench.receive(4, &dispatch("1"));
    assert!(matches!(&done[..], [Done::Sent(4, text)] if text.contains("false") && text.contains("close")));
    assert_eq!(bench.sent(4), [Done::Closed(4)]);
    assert_eq!(bench.fin(2, Some(CLEAN)), [answer(3, true), Done::Closed(2)]);
    assert_eq!(bench.sent(3), [Done::Closed(3)]);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
    assert_eq!(bench.pass_ms(2_498), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::Drained]);
}

#[test]
fn a_supervisor_that_hangs_up_leaves_nothing_behind() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.reset(1);
    bench.sent(0);
    assert_eq!(bench.fin(0, Some(CLEAN)), [Done::Closed(0)]);
    assert_eq!((bench.broker.connections(), bench.broker.waiting()), (0, 0));
    assert_eq!(bench.broker.next_deadline(), None);
    bench.command(Command::Report { keys: Some(KeyPage::default()), dispatch_events: None });
    let report = bench.reports.pop().unwrap();
    assert_eq!((report.claimed, report.keys.len(), report.keys[0].waiting), (0, 1, 0));
}

#[test]
fn the_confirmation_asked_of_the_engine_is_the_modes() {
    for (confirm, expected) in [
        (Confirm::Read, SendConfirm::Closed),
        (Confirm::Ack, SendConfirm::Acked),
        (Confirm::Write, SendConfirm::None),
    ] {
        let mut bench = Bench::new(Settings { confirm, ..settings() });
        bench.poll(0);
        bench.accept(1);
        let (conn, bytes) = (bench.id(1), dispatch("1"));
        bench.broker.handle(bench.now, Input::Received { conn, bytes: &bytes });
        let confirms: Vec<SendConfirm> = std::iter::from_fn(|| bench.broker.poll_output())
            .filter_map(|output| match output {
                Output::Send { confirm, .. } => Some(confirm),
                _ => None,
            })
            .collect();
        assert_eq!(confirms, [expected]);
    }
}

#[test]
fn a_drain_keeps_no_poll_past_its_time() {
    let mut bench = Bench::new(Settings { drain_time_ms: 60_000, ..settings() });
    bench.poll(0);
    bench.poll(1);
    bench.pass_ms(29_000);
    bench.command(Command::Drain);
    // The second one's turn would come after 30 s; it is over after one and the guard.
    bench.pass_ms(0);
    assert_eq!(bench.pass_ms(1_499), []);
    assert_eq!(bench.pass_ms(1), [Done::Closed(1), Done::Drained]);
}

#[test]
fn a_guard_and_a_round_trip_longer_than_the_process_has_run() {
    let mut bench = Bench::new(Settings { connection_timeout_ms: 1_000, guard_ms: 900, ..settings() });
    bench.now = Time(0);
    bench.poll(0);
    assert_eq!(bench.pass_ms(0), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, TcpFacts { rtt_us: 500_000, ..CLEAN }), []);
    assert_eq!(bench.dispatch(1), [answer(1, false)]);
}

#[test]
fn a_pipelined_head_longer_than_what_is_kept_is_read_to_its_end() {
    let mut bench = Bench::new(Settings { pipeline_bytes_max: 16, ..settings() });
    bench.accept(0);
    let connect = b"GET /connect HTTP/1.1\r\nHost: b\r\n\r\n";
    let (begin, rest) = POLL.split_at(100);
    let done = bench.receive(0, &[connect, begin].concat());
    assert!(matches!(&done[..], [Done::Sent(0, _), Done::Paused(0)]), "{done:?}");
    assert_eq!(bench.sent(0), [Done::Resumed(0)]);
    assert_eq!(bench.receive(0, rest), []);
    assert_eq!(bench.broker.waiting(), 1);
}

#[test]
fn a_cordon_lifted_in_a_drain_lets_nobody_match() {
    let mut bench = Bench::new(settings());
    let node = Selector::Instance("node-1".into());
    bench.command(Command::Cordon(node.clone()));
    bench.poll(0);
    bench.poll(1);
    bench.command(Command::Drain);
    assert_eq!(bench.pass_ms(1), [Done::Closed(0)]);
    bench.command(Command::Uncordon(node));
    assert!(bench.shared.0.0.borrow().iter().all(|cores| *cores == 0), "no core may be asked");
    assert_eq!(bench.pass_ms(2_499), [Done::Closed(1), Done::Drained], "in its turn");
}

#[test]
fn a_fin_that_is_there_is_proof_before_its_event_is() {
    let mut bench = Bench::new(settings());
    bench.poll(0);
    bench.dispatch(1);
    bench.sent(0);
    assert_eq!(bench.pass_ms(300), [Done::Probed(0)]);
    assert_eq!(bench.probed(0, CLEAN), []);
    assert_eq!(bench.pass_ms(700), [Done::Probed(0)], "the read timeout");
    assert_eq!(bench.probed(0, TcpFacts { fin: true, ..CLEAN }), [answer(1, true), Done::Closed(0)]);
}
