//! The simulation: the production broker core and workers on one thread, with virtual time, in-memory
//! sockets, scripted clients and the faults that a seed draws. See docs/testing.md.
//!
//! - `cargo test --test sim` runs 256 seeds;
//! - `SIM_SEED=n` replays one seed and prints its story;
//! - `SIM_SEEDS=from..to` runs a range; with `SIM_KEEP_GOING=1` it prints one line for each seed that fails.

mod client;
mod engine;
mod mutations;
mod net;
mod oracle;
mod plan;
mod plant;
mod planted_bugs;
#[path = "../planting/mod.rs"]
mod planting;
mod rng;
mod runners;
mod supervisors;
mod tally;
mod trace;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::time::Instant;
use tally::Tally;
use world::World;

/// Events that the ordinary seeds must cover. A simulation that never reaches one proves nothing about it.
const CORNERS: &[&str] = &[
    "attempts on another worker",
    "worker: accept errors",
    "worker: attempts reset",
    "worker: attempts unacknowledged",
    "worker: attempts unread",
    "worker: evicted",
    "worker: offers returned",
    "worker: polls expired",
    "worker: refused at a limit",
    "worker: rejected",
    "worker: requests timed out",
    "delivered, supervisor gone",
    "false at the deadline, read",
    "false, read by a process that was reset",
    "warm",
    "cold at the deadline",
    "refused: no room for the bytes",
    "released: the deadline",
    "true, unread: acknowledged by the kernel alone",
];

/// Faults that the ordinary seeds must cover: every kind that the simulation injects.
const FAULTS: &[&str] = &[
    "fault: a FIN before the claim",
    "fault: a FIN after the run",
    "fault: a FIN while the run is being written",
    "fault: a FIN with bytes unacknowledged",
    "fault: a read brings a single byte",
    "fault: a connection's events arrive after those of others",
    "fault: a worker stalls",
    "fault: a worker stalls after an offer",
    "fault: a dispatch at a poll's end",
    "fault: a shutdown during a delivery",
    "fault: a fact about a connection that has ended",
    "fault: a message between workers is slow",
    "fault: a packet is lost",
    "fault: a read falls short",
    "fault: the network resets a connection",
    "fault: a runner closes",
    "fault: a runner dies",
    "fault: a runner freezes",
    "fault: a runner half-closes",
    "fault: packets to a runner are lost for a while",
    "fault: packets from a runner are lost for a while",
    "fault: a runner polls again and closes the old connection late",
    "fault: a runner reads slowly",
    "fault: a runner resets",
    "fault: a runner's machine vanishes",
    "fault: a supervisor's mishap",
    "fault: a wire is cut",
    "fault: a write falls short",
    "fault: an accept fails",
    "fault: an acknowledgement is delayed",
    "fault: an acknowledgement is never announced",
    "fault: garbage after a poll",
    "fault: the clock jumps",
];

const SEEDS: std::ops::Range<u64> = 0..256;

thread_local! {
    /// Message and place of the last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

#[test]
fn seeds() {
    if let Some(seed) = variable("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        let (result, story) = run(seed, true);
        println!("{story}");
        return match result {
            Ok(tally) => println!("seed {seed}:\n{tally}"),
            Err(fault) => panic!("seed {seed}: {fault}"),
        };
    }
    let range = match variable("SIM_SEEDS") {
        Some(range) => {
            let (from, to) = range.split_once("..").expect("SIM_SEEDS is from..to");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
        None => SEEDS,
    };
    let started = Instant::now();
    let mut total = Tally::default();
    let mut failed = 0;
    let count = range.end - range.start;
    for seed in range {
        match run(seed, false).0 {
            Ok(tally) => total.add_all(&tally),
            Err(fault) if variable("SIM_KEEP_GOING").is_some() => {
                failed += 1;
                println!("seed {seed}: {fault}");
            }
            Err(fault) => {
                let (_, story) = run(seed, true);
                panic!("{story}\nseed {seed}: {fault}\nreplay it with SIM_SEED={seed}");
            }
        }
    }
    if variable("SIM_SEEDS").is_none() {
        for corner in CORNERS.iter().chain(FAULTS) {
            assert!(total.get(corner) > 0, "no seed covered this: {corner}");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {:.0} seeds/s\n{total}", count as f64 / seconds);
    assert_eq!(failed, 0, "seeds failed");
}

/// A failing seed can be replayed: the run is the same to the last fact, with and without its story.
#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..24 {
        let (first, story) = run(seed, true);
        let (second, again) = run(seed, true);
        let (untraced, no_story) = run(seed, false);
        assert!(story.lines().count() > 10, "seed {seed}: {story}");
        assert!(story == again, "seed {seed} has two stories");
        assert_eq!((&first, &first), (&second, &untraced), "seed {seed}");
        assert_eq!(no_story, "", "seed {seed}");
    }
}

/// Runs one world. A panic in the broker counts as a violation.
fn run(seed: u64, trace: bool) -> (Result<Tally, String>, String) {
    let mut world = World::new(seed, trace);
    let quiet: Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = Box::new(|info| {
        PANIC.with(|panic| panic.replace(format!("panic: {info}").replace('\n', " "))).clear()
    });
    let loud = std::panic::take_hook();
    std::panic::set_hook(quiet);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    std::panic::set_hook(loud);
    let result = result.unwrap_or_else(|_| Err(PANIC.with(|panic| panic.take())));
    (result, world.story())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
