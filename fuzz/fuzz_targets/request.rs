//! Checks that the core answers request bytes in arbitrary fragments like the same bytes in one piece. For
//! the first head: httparse accepts what the core accepts, and reads it alike; and the core accepts every
//! plain, well-formed head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_fuzz::alone::answer;
use pilotlight_fuzz::broker::contract::RequestHead;
use pilotlight_fuzz::broker::http::{Framing, HEADER_FIELDS_MAX, HeadScanner, Version, read_head};
use pilotlight_fuzz::bytes::pieces;

fuzz_target!(|data: &[u8]| {
    let Some((seed, request)) = data.split_first_chunk() else { return };
    let mut lens = pieces(u64::from_le_bytes(*seed));
    let mut rest = request;
    let fragments = std::iter::from_fn(|| {
        let (piece, behind) = rest.split_at(lens.next()?.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(answer(fragments), answer(std::iter::once(request)));
    head(request);
});

fn head(request: &[u8]) {
    let Ok(Some(len)) = HeadScanner::default().advance(request, 4 << 10) else { return };
    let bytes = &request[..len];
    let mut slots = [httparse::EMPTY_HEADER; HEADER_FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut slots);
    let parsed = theirs.parse(bytes);
    let ours: Result<RequestHead<'_>, _> =
        read_head(&mut HeadScanner::default(), request, 4 << 10).map(|head| head.expect("complete").0);
    let fields: Vec<(String, &[u8])> =
        theirs.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value)).collect();
    let named = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect()
    };
    let Ok(ours) = ours else {
        let plain_fields = ["host", "accept", "user-agent", "x-trigger-deployment-id"];
        let is_plain = parsed == Ok(httparse::Status::Complete(len))
            && !matches!(bytes[0], b'\r' | b'\n')
            && matches!(theirs.method, Some("GET" | "POST" | "HEAD"))
            && matches!(theirs.path, Some("/connect" | "/warm-start" | "/warm-start?x=1"))
            && fields.iter().all(|(name, _)| plain_fields.contains(&name.as_str()))
            && matches!(named("host")[..], [host] if host.iter().all(u8::is_ascii_alphanumeric));
        assert!(!is_plain, "refused: {ours:?}");
        return;
    };
    assert_eq!(parsed, Ok(httparse::Status::Complete(len)));
    let version = if theirs.version == Some(0) { Version::Http10 } else { Version::Http11 };
    assert_eq!(ours.version, version);
    let framing = match (&named("content-length")[..], &named("transfer-encoding")[..]) {
        ([], []) => Framing::None,
        ([digits], []) => {
            assert!(digits.iter().all(u8::is_ascii_digit));
            Framing::Length(std::str::from_utf8(digits).unwrap().parse().unwrap())
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            Framing::Chunked
        }
        both => panic!("accepted {both:?}"),
    };
    assert_eq!(ours.framing, framing);
    let hosts = named("host").len();
    assert!(hosts == 1 || (hosts == 0 && version == Version::Http10));
    let written = theirs.path.unwrap_or_default();
    match ours.target {
        // RFC 9112 section 3.2.4: `*`, or a URI without a path. Only OPTIONS allows it.
        "*" => assert_eq!(theirs.method, Some("OPTIONS")),
        "/" => {}
        path => assert!(written.contains(path), "{path} read from {written}"),
    }
}
