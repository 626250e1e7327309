//! The hand-off between workers, model-checked: `src/workers`'s mesh, hints and worker, as they are,
//! compiled against loom's atomics, and every interleaving (and every value that the memory model
//! lets a load see) tried within the bounds below. See docs/testing.md.

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

/// Tries every interleaving of `model`: all there are, or those with at most so many preemptions (a
/// thread that has to wait is not preempted).
fn check(preemptions_max: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.max_branches = 10_000;
    builder.check(model);
}
