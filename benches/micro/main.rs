//! The hot paths, one at a time, for counting their instructions: see `scripts/bench-micro`.
//!
//!   micro            lists the operations
//!   micro OP COUNT   runs one of them COUNT times

mod core;

use pilotlight::broker::connections::timer::Wheel;
use pilotlight::broker::contract::{self, Route, Side, parse_dispatch};
use pilotlight::broker::http::{HeadScanner, read_head};
use pilotlight::broker::settings::Confirm;
use pilotlight::broker::time::Time;
use std::hint::black_box;
use std::process::ExitCode;

/// A poll as a runner's fetch sends it.
const POLL: &[u8] = b"GET /warm-start HTTP/1.1\r\nHost: 127.0.0.1:8090\r\n\
    x-trigger-workload-controller-id: controller_cmbq3v1k20004l508h2d9c7xe\r\n\
    x-trigger-deployment-id: deployment_bench00000000\r\nx-trigger-deployment-version: 20260714.3\r\n\
    x-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 0.5\r\n\
    x-trigger-worker-instance-name: worker-eu-central-1-07\r\naccept: */*\r\naccept-language: *\r\n\
    sec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n\r\n";
/// A dispatch as a supervisor's fetch sends it, up to the length of its body.
const DISPATCH: &str = "POST /warm-start HTTP/1.1\r\nHost: 127.0.0.1:8090\r\ncontent-type: application/json\r\n\
    accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
    accept-encoding: gzip, deflate\r\ncontent-length: ";
const BODY: &str = include_str!("../compare/load/dispatch.json");
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An operation's name, and a function that repeats it.
type Operation = (&'static str, fn(usize));

const OPERATIONS: &[Operation] = &[
    ("parse-poll", parse_polls),
    ("parse-dispatch-head", parse_dispatch_heads),
    ("parse-dispatch-body", parse_dispatch_bodies),
    ("match-write", |count| core::matches(Confirm::Write, count)),
    ("match-ack", |count| core::matches(Confirm::Ack, count)),
    ("match-read", |count| core::matches(Confirm::Read, count)),
    ("miss", core::cold),
    ("timer-push", push_timers),
    ("timer-fire", fire_timers),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, count] = arguments.as_slice() else {
        OPERATIONS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let operation = OPERATIONS.iter().find(|(known, _)| known == name);
    let (Some((_, run)), Ok(count)) = (operation, count.parse()) else {
        eprintln!("micro: unknown operation or invalid count");
        return ExitCode::FAILURE;
    };
    run(count);
    ExitCode::SUCCESS
}

/// A complete dispatch.
fn dispatch_request() -> Vec<u8> {
    format!("{DISPATCH}{}\r\n\r\n{BODY}", BODY.len()).into_bytes()
}

fn parse_polls(count: usize) {
    for _ in 0..count {
        let bytes = black_box(POLL);
        let (head, _) = read_head(&mut HeadScanner::default(), bytes, HEAD_BYTES_MAX).unwrap().unwrap();
        assert_eq!(contract::route(&head, Side::Runner, true), Ok(Route::Poll));
        black_box(contract::read_poll(&head).unwrap());
    }
}

fn parse_dispatch_heads(count: usize) {
    let request = dispatch_request();
    for _ in 0..count {
        let bytes = black_box(request.as_slice());
        let (head, _) = read_head(&mut HeadScanner::default(), bytes, HEAD_BYTES_MAX).unwrap().unwrap();
        assert_eq!(contract::route(&head, Side::Runner, true), Ok(Route::Dispatch));
        black_box(head.framing);
    }
}

fn parse_dispatch_bodies(count: usize) {
    for _ in 0..count {
        black_box(parse_dispatch(black_box(BODY.as_bytes())).unwrap());
    }
}

/// Slots with a timer.
const TIMERS: u32 = 1_000;

fn armed() -> Wheel {
    let mut wheel = Wheel::default();
    (0..TIMERS).for_each(|slot| wheel.arm(slot, Time::from_ms(30_000 + u64::from(slot))));
    wheel
}

/// Moves a deadline later, as on every request of a kept-alive connection.
fn push_timers(count: usize) {
    let mut wheel = armed();
    for at in 0..count {
        wheel.arm(at as u32 % TIMERS, black_box(Time::from_ms(40_000 + at as u64)));
    }
    black_box(wheel.next_deadline());
}

/// Fires a timer 30 seconds after it was armed.
fn fire_timers(count: usize) {
    let mut wheel = armed();
    let mut left = count;
    while left > 0 {
        let now = wheel.next_deadline().unwrap();
        while left > 0
            && let Some(slot) = wheel.expired(now)
        {
            wheel.arm(slot, now.plus_ms(30_000));
            left -= 1;
        }
    }
}
