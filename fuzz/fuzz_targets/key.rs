//! Checks that the core reads a poll's key fields as httparse and a naive reader with serde_json's grammar do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_fuzz::broker::contract;
use pilotlight_fuzz::broker::http::{HEADER_FIELDS_MAX, HeadScanner, read_head};
use pilotlight_fuzz::broker::json::Number;
use pilotlight_fuzz::broker::pools::KeyRef;

fuzz_target!(|fields: &[u8]| {
    let bytes = [b"GET /warm-start HTTP/1.1\r\nHost: b\r\n", fields, b"\r\n\r\n"].concat();
    let Ok(Some((head, len))) = read_head(&mut HeadScanner::default(), &bytes, 4 << 10) else { return };
    let mut slots = [httparse::EMPTY_HEADER; HEADER_FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut slots);
    theirs.parse(&bytes[..len]).expect("what we accept, httparse accepts");
    let named = |name: &str| -> Vec<&[u8]> {
        let same = theirs.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        same.map(|field| field.value).collect()
    };
    let text = |name: &str| match named(name)[..] {
        [value] => std::str::from_utf8(value).ok().filter(|text| !text.is_empty()),
        _ => None,
    };
    let number = |name: &str| text(name).and_then(number);
    // The field is optional. If it is repeated, the first one counts, and that must be UTF-8.
    let optional = |name: &str| match named(name).first() {
        None => Some(""),
        Some(value) => std::str::from_utf8(value).ok(),
    };
    let expected = (|| {
        Some((
            text("x-trigger-deployment-id")?,
            text("x-trigger-deployment-version")?,
            number("x-trigger-machine-cpu")?,
            number("x-trigger-machine-memory")?,
            optional("x-trigger-worker-instance-name")?,
            optional("x-trigger-workload-controller-id")?,
        ))
    })();
    let poll = contract::read_poll(&head);
    let found = poll.as_ref().ok().map(|poll| {
        let KeyRef { deployment, version, cpu, memory } = poll.key;
        (deployment, version, cpu.get().to_bits(), memory.get().to_bits(), poll.node, poll.controller)
    });
    assert_eq!(found, expected, "{poll:?}");
    if let Ok(poll) = poll {
        let key = poll.key.to_key();
        assert_eq!(key.as_ref(), poll.key);
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        assert_eq!(key.as_ref().hash(&hasher), poll.key.hash(&hasher));
        // A number equals its shortest spelling.
        assert_eq!(Number::parse(format!("{:?}", poll.key.cpu.get())), Some(poll.key.cpu));
    }
});

/// The bits of a finite number in JSON's grammar; those of 0 for -0.
fn number(text: &str) -> Option<u64> {
    let number: &serde_json::value::RawValue = serde_json::from_str(text).ok()?;
    let is_number = number.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if !is_number || number.get() != text {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some((value + 0.0).to_bits())
}
