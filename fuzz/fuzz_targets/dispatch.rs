//! A dispatch's body: read as serde_json reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Err(how) = pilotlight_fuzz::naive::agree(body) {
        panic!("{how}");
    }
});
