//! The simulation: the production core and shards on one thread, virtual time, in-memory sockets,
//! scripted clients and every fault that a seed draws. See docs/testing.md.
//!
//! - `cargo test --test sim` runs 256 seeds;
//! - `SIM_SEED=n` replays one and prints its story;
//! - `SIM_SEEDS=from..to` sweeps; with `SIM_KEEP_GOING=1` it names every seed that fails, in a line each.

mod client;
mod engine;
mod net;
mod oracle;
mod plan;
mod rng;
mod runners;
mod supervisors;
mod trace;
mod world;

use oracle::Tally;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::time::Instant;
use world::World;

const SEEDS: std::ops::Range<u64> = 0..256;

thread_local! {
    /// What the last panic said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

#[test]
fn seeds() {
    if let Some(seed) = variable("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        let (result, story) = run(seed, true);
        println!("{story}");
        return match result {
            Ok(tally) => println!("seed {seed}: {tally:?}"),
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
            Ok(tally) => total.add(&tally),
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
    let seconds = started.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {:.0} seeds/s: {total:?}", count as f64 / seconds);
    assert_eq!(failed, 0, "seeds failed");
}

/// Runs one world. A panic in the core is a fault like any other.
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
