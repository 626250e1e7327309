//! Checks that the core reads a dispatch's body as serde_json does.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Err(how) = pilotlight_fuzz::naive::agree(body) {
        panic!("{how}");
    }
});
