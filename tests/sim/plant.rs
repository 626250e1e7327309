//! Plants a bug in the workers of this thread. Here it does nothing: the test `planted_bugs` makes a copy
//! of the package with another `plant.rs`, and writes every bug of `mutations.rs` into its source.

/// This build contains the bugs.
pub const READY: bool = false;

pub fn plant(_name: &'static str) {}
