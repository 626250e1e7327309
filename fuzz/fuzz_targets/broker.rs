//! Whole input sequences through two workers and the mesh between them, held to what a naive watcher
//! knows; the worker's own recount runs after every call.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pilotlight_fuzz::world::play(data));
