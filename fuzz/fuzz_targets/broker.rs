//! Whole input sequences through two workers and the mesh between them, compared with a naive model. The
//! invariants of debug builds are checked after every call.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pilotlight_fuzz::world::play(data));
