//! Runs that one worker offers to another, with real workers, real broker cores and real hints.

use super::check;
use crate::broker::Broker;
use crate::broker::io::Payload;
use crate::broker::report::Command;
use crate::broker::settings::{Confirm, ConnectionLimit, MatchOrder, Settings, TokenMode};
use crate::broker::token::Secrets;
use crate::kernel::{Fact, Kernel, OnKernel};
use crate::workers::event_loop::EventLoop;
use crate::workers::hints::Hints;
use crate::workers::mesh::{Address, Mail, Mailbox, mailbox};
use crate::workers::worker::Worker;
use loom::thread::{self, JoinHandle};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// The stack of a worker's thread.
const STACK_WORDS: usize = 64 * 1024;

/// A worker and the state that a test can see.
pub struct ModelledWorker {
    index: usize,
    handled_inline: bool,
    pub kernel: Kernel,
    mailbox: Cell<Option<Mailbox>>,
    peers: Vec<Address>,
    hints: Hints,
}

impl ModelledWorker {
    pub fn alone() -> ModelledWorker {
        let [peer] = ModelledWorker::fleet(false);
        peer
    }

    pub fn fleet<const WORKERS: usize>(handled_inline: bool) -> [ModelledWorker; WORKERS] {
        let hints = Hints::with_sizes(1, 1);
        let kernels: [Kernel; WORKERS] = std::array::from_fn(|_| Kernel::new());
        let (peers, mailboxes): (Vec<Address>, Vec<Mailbox>) =
            kernels.iter().map(|kernel| mailbox(Arc::new(kernel.clone()))).unzip();
        let mut mailboxes = mailboxes.into_iter();
        std::array::from_fn(|index| ModelledWorker {
            index,
            handled_inline,
            kernel: kernels[index].clone(),
            mailbox: Cell::new(mailboxes.next()),
            peers: peers.clone(),
            hints: hints.clone(),
        })
    }

    pub fn address(&self) -> Address {
        self.peers[self.index].clone()
    }

    /// Starts the worker's thread.
    pub fn run(&self) -> JoinHandle<()> {
        self.run_with(settings())
    }

    fn run_with(&self, settings: Settings) -> JoinHandle<()> {
        let (index, hints, kernel) = (self.index, self.hints.clone(), self.kernel.clone());
        let mailbox = self.mailbox.take().expect("a worker runs once");
        let (peers, handled_inline) = (self.peers.clone(), self.handled_inline);
        // The worker is large, and parsing needs much stack: more than loom's threads have.
        let run = move || {
            let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
            let broker = Broker::new(index, settings, hasher, hints);
            let own = peers[index].clone();
            let worker = Worker::new(index, broker, OnKernel::new(&kernel), mailbox, peers, Instant::now());
            let event_loop = EventLoop::new(worker);
            let event_loop = if handled_inline { event_loop.with_inline_handling(&own) } else { event_loop };
            event_loop.run().unwrap();
        };
        thread::Builder::new().stack_size(STACK_WORDS).spawn(run).unwrap()
    }

    /// Shuts it down and waits for its end.
    fn end(&self, worker: JoinHandle<()>) {
        self.address().send(command(Command::ShutDown, &self.kernel));
        worker.join().unwrap();
    }
}

/// A command whose reply `kernel` counts.
pub fn command(command: Command, kernel: &Kernel) -> Mail {
    let kernel = kernel.clone();
    Mail::Command { command, reply: Box::new(move |_| kernel.change(|seen| seen.replies += 1)) }
}

/// In the model no time passes, so no timer expires.
const NEVER_MS: u64 = 1_000_000_000;

fn settings() -> Settings {
    Settings {
        connection_timeout_ms: NEVER_MS,
        keepalive_ms: NEVER_MS,
        connections: ConnectionLimit::of(100, 1),
        keys_max: 100,
        body_bytes_max: 1 << 20,
        head_bytes_max: 16 << 10,
        request_timeout_ms: NEVER_MS,
        idle_timeout_ms: NEVER_MS,
        preconnect_timeout_ms: NEVER_MS,
        write_timeout_ms: NEVER_MS,
        match_order: MatchOrder::Newest,
        confirm: Confirm::Write,
        ack_timeout_ms: NEVER_MS,
        read_timeout_ms: NEVER_MS,
        dispatch_timeout_ms: NEVER_MS,
        attempts_max: 3,
        guard_ms: 1,
        shutdown_time_ms: NEVER_MS,
        linger_ms: NEVER_MS,
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

/// A poll and a dispatch for version `$v`.
macro_rules! poll {
    ($v:literal) => {
        concat!(
            "GET /warm-start HTTP/1.1\r\nHost: b\r\nx-trigger-deployment-id: d\r\n",
            "x-trigger-deployment-version: ",
            $v,
            "\r\nx-trigger-machine-cpu: 1\r\nx-trigger-machine-memory: 1\r\n\r\n"
        )
        .as_bytes()
    };
}
macro_rules! dispatch {
    ($v:literal) => {
        concat!(
            "POST /warm-start HTTP/1.1\r\nHost: b\r\nContent-Length: 127\r\n\r\n",
            r#"{"dequeuedMessage":{"deployment":{"friendlyId":"d"},"backgroundWorker":{"version":""#,
            $v,
            r#""},"run":{"machine":{"cpu":1,"memory":1}}}}"#
        )
        .as_bytes()
    };
}

/// How many runs a worker has sent to the runners in these slots.
fn runs(kernel: &Kernel, slots: &[u32]) -> usize {
    kernel.see(|seen| {
        let to_them = |(slot, payload): &&(u32, Payload)| slots.contains(slot) && is_run(payload);
        seen.sent.iter().filter(to_them).count()
    })
}

fn is_run(payload: &Payload) -> bool {
    contains(payload, b"friendlyId")
}

fn contains(payload: &Payload, what: &[u8]) -> bool {
    payload.bytes().windows(what.len()).any(|window| window == what)
}

/// The answers that the supervisor in `slot` got.
fn answers(kernel: &Kernel, slot: u32) -> Vec<bool> {
    kernel.see(|seen| {
        let answers = seen.sent.iter().filter(|(to, payload)| *to == slot && !is_run(payload));
        answers.map(|(_, payload)| contains(payload, b"true")).collect()
    })
}

const RUNNER: u32 = 0;
const SECOND_RUNNER: u32 = 1;
const SUPERVISOR: u32 = 2;

/// Runs `model` without inline handling, then with it.
fn with_and_without_inline_handling(
    preemptions_max: Option<usize>,
    model: impl Fn(bool) + Send + Sync + Copy + 'static,
) {
    for inline in [false, true] {
        check(preemptions_max, move || model(inline));
    }
}

/// The supervisor and the runner disconnect, and both workers shut down.
fn all_leave(
    (home, at_home): (&ModelledWorker, JoinHandle<()>),
    (other, away): (&ModelledWorker, JoinHandle<()>),
) {
    home.kernel.feed(&[Fact::Closed(SUPERVISOR)]);
    other.kernel.feed(&[Fact::Closed(RUNNER)]);
    home.kernel.until_true(|seen| seen.closed == 1);
    other.kernel.until_true(|seen| seen.closed == 1);
    home.end(at_home);
    other.end(away);
}

/// A dispatch on one worker and two polls on another, in any order: the dispatch is answered once. The answer is true
/// exactly if one of the polls got the run. The polls never both get it.
#[test]
fn an_offer_is_neither_lost_nor_doubled() {
    with_and_without_inline_handling(Some(2), |inline| {
        let [home, other] = ModelledWorker::fleet(inline);
        other.kernel.feed(&[
            Fact::Accepted(RUNNER),
            Fact::Accepted(SECOND_RUNNER),
            Fact::Received(RUNNER, poll!("1")),
            Fact::Received(SECOND_RUNNER, poll!("1")),
        ]);
        home.kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("1"))]);
        let workers = [home.run(), other.run()];
        home.kernel.until_true(|seen| !seen.sent.is_empty());
        let delivered = runs(&other.kernel, &[RUNNER, SECOND_RUNNER]);
        assert!(delivered <= 1);
        assert_eq!(answers(&home.kernel, SUPERVISOR), [delivered == 1]);

        home.kernel.feed(&[Fact::Closed(SUPERVISOR)]);
        other.kernel.feed(&[Fact::Closed(RUNNER), Fact::Closed(SECOND_RUNNER)]);
        home.kernel.until_true(|seen| seen.closed == 1);
        other.kernel.until_true(|seen| seen.closed == 2);
        let [at_home, away] = workers;
        home.end(at_home);
        other.end(away);
        assert_eq!(runs(&other.kernel, &[RUNNER, SECOND_RUNNER]), delivered);
        assert_eq!(answers(&home.kernel, SUPERVISOR).len(), 1);
    });
}

/// Once a test can see that a poll is held, a dispatch on another worker finds it. It does not matter whether the
/// poll's worker blocks by then.
#[test]
fn a_held_poll_is_found_from_another_worker() {
    with_and_without_inline_handling(Some(2), |inline| {
        let [home, other] = ModelledWorker::fleet(inline);
        other.kernel.feed(&[Fact::Accepted(RUNNER), Fact::Received(RUNNER, poll!("1"))]);
        let away = other.run();
        other.kernel.until_true(|seen| seen.blocked && seen.reported == 2);
        home.kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("1"))]);
        let at_home = home.run();
        home.kernel.until_true(|seen| !seen.sent.is_empty());
        assert_eq!(answers(&home.kernel, SUPERVISOR), [true]);
        assert_eq!(runs(&other.kernel, &[RUNNER]), 1);

        all_leave((&home, at_home), (&other, away));
    });
}

/// A worker that has a run for a blocked worker handles it inline. It wakes that worker only if something is then due
/// before the blocked thread would wake up.
#[test]
fn inline_handling_wakes_a_worker_only_for_an_earlier_deadline() {
    for idle_timeout_ms in [NEVER_MS, 1_000] {
        check(Some(2), move || {
            let [home, other] = ModelledWorker::fleet(true);
            other.kernel.feed(&[Fact::Accepted(RUNNER), Fact::Received(RUNNER, poll!("1"))]);
            let away = other.run_with(Settings { idle_timeout_ms, ..settings() });
            other.kernel.until_true(|seen| seen.blocked && seen.reported == 2);
            home.kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("1"))]);
            let at_home = home.run();
            home.kernel.until_true(|seen| !seen.sent.is_empty());
            assert_eq!(answers(&home.kernel, SUPERVISOR), [true]);
            if idle_timeout_ms == NEVER_MS {
                assert_eq!(other.kernel.see(|seen| (seen.wakes, seen.blocked)), (0, true));
            } else {
                other.kernel.until_true(|seen| seen.wakes == 1 && seen.blocked);
            }
            all_leave((&home, at_home), (&other, away));
        });
    }
}

/// Each worker has the poll that the other's dispatch needs: offers and replies cross.
#[test]
fn offers_that_cross_are_both_answered() {
    with_and_without_inline_handling(Some(1), |inline| {
        let peers: [ModelledWorker; 2] = ModelledWorker::fleet(inline);
        peers[0].kernel.feed(&[Fact::Accepted(RUNNER), Fact::Received(RUNNER, poll!("1"))]);
        peers[1].kernel.feed(&[Fact::Accepted(RUNNER), Fact::Received(RUNNER, poll!("2"))]);
        peers[0].kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("2"))]);
        peers[1].kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("1"))]);
        let workers = [peers[0].run(), peers[1].run()];
        for (peer, other) in [(&peers[0], &peers[1]), (&peers[1], &peers[0])] {
            peer.kernel.until_true(|seen| seen.sent.iter().any(|(slot, _)| *slot == SUPERVISOR));
            let delivered = runs(&other.kernel, &[RUNNER]);
            assert_eq!(answers(&peer.kernel, SUPERVISOR), [delivered == 1]);
        }
        for peer in &peers {
            peer.kernel.feed(&[Fact::Closed(SUPERVISOR), Fact::Closed(RUNNER)]);
            peer.kernel.until_true(|seen| seen.closed == 2);
        }
        for (peer, worker) in peers.iter().zip(workers) {
            peer.end(worker);
        }
    });
}

/// A worker shuts down while an offer is on its way to it. The run is delivered and the answer is true, or the run is
/// not delivered and the answer is false. If the offer was dropped with the worker's mailbox, the dispatch waits for its
/// deadline.
#[test]
fn an_offer_to_a_worker_that_shuts_down_is_settled_or_dropped() {
    with_and_without_inline_handling(Some(1), |inline| {
        let [home, other] = ModelledWorker::fleet(inline);
        other.kernel.feed(&[Fact::Accepted(RUNNER), Fact::Received(RUNNER, poll!("1"))]);
        let away = other.run();
        other.kernel.until_true(|seen| seen.blocked && seen.reported == 2);
        home.kernel.feed(&[Fact::Accepted(SUPERVISOR), Fact::Received(SUPERVISOR, dispatch!("1"))]);
        let at_home = home.run();
        // The runner leaves, with the run or without it, so that the shutdown need not wait for it.
        other.kernel.feed(&[Fact::Closed(RUNNER)]);
        other.kernel.until_true(|seen| seen.reported == 3);
        other.end(away);
        home.kernel.until_true(|seen| seen.reported == 2);
        home.address().send(command(Command::Report { keys: None, dispatch_events: None }, &home.kernel));
        home.kernel.until_true(|seen| seen.replies == 1);
        let delivered = runs(&other.kernel, &[RUNNER]);
        match answers(&home.kernel, SUPERVISOR)[..] {
            [] => assert_eq!(delivered, 0, "a reply was lost"),
            [answer] => assert_eq!(answer, delivered == 1),
            ref more => panic!("{more:?}"),
        }
        home.kernel.feed(&[Fact::Reset(SUPERVISOR)]);
        home.kernel.until_true(|seen| seen.closed == 1);
        home.end(at_home);
    });
}
