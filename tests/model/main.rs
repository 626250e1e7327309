//! Model checks of the state that workers share: the mailboxes, hints and workers of `src/workers`, compiled unchanged against
//! loom's atomics. Loom tries every interleaving, and every value that the memory model lets a load see, within the
//! bounds below. See docs/testing.md.

mod handover;
mod kernel;
mod mail;
mod mutations;
mod plant;
mod planted_bugs;
#[path = "../planting/mod.rs"]
mod planting;
mod table;
mod workers;

// What the files of `src/workers` import from the rest of the crate.
use pilotlight::{broker, engine, sys};

/// Tries every interleaving of `model`, or those with at most `preemptions_max` preemptions. A thread that has to wait
/// is not preempted.
fn check(preemptions_max: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.max_branches = 10_000;
    builder.check(model);
}
