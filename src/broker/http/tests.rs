//! Complete heads, from the first byte to [`Head`].

use super::*;
use proptest::prelude::*;

/// An application without fields of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Plain;

impl<'b> Application<'b> for Plain {
    const USUAL_TARGET: &'static str = "/warm-start";

    fn take_field(&mut self, _: &[u8], _: &'b [u8]) {}
}

/// Reads a head as a connection does.
fn head(bytes: &[u8]) -> Result<Head<'_, Plain>, Rejection> {
    let head = read_head(&mut HeadScanner::default(), bytes, 16 * 1024)?;
    Ok(head.unwrap_or_else(|| panic!("no whole head: {}", bytes.escape_ascii())).0)
}

fn refusal(text: &str) -> Rejection {
    match head(text.as_bytes()) {
        Err(rejection) => rejection,
        Ok(head) => panic!("{text:?} is accepted as {head:?}"),
    }
}

/// A head with `lines`, which include their line ends, after the request line.
fn get(version: &str, lines: &str) -> String {
    format!("GET /connect HTTP/{version}\r\n{lines}\r\n")
}

/// An HTTP/1.1 request with a Host and `lines`.
fn with(lines: &str) -> String {
    get("1.1", &format!("Host: broker:8040\r\n{lines}"))
}

/// What Node's fetch sends for a poll.
const POLL: &str = "GET /warm-start HTTP/1.1\r\nhost: pilotlight.trigger.svc:8040\r\nconnection: keep-alive\r\nx-trigger-workload-controller-id: controller_8c1f\r\nx-trigger-deployment-id: deployment_q7w2e9r4t1y6u3i8\r\nx-trigger-deployment-version: 20260714.3\r\nx-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 0.5\r\nx-trigger-worker-instance-name: node-7\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n\r\n";

#[test]
fn reads_a_poll() {
    let head = head(POLL.as_bytes()).unwrap();
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target, "/warm-start");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::None);
    assert!(head.keep_alive && !head.expect_continue);
}

#[test]
fn accepts_request_lines() {
    for (line, method, target) in [
        ("GET / HTTP/1.1", Method::Get, "/"),
        ("HEAD /connect?x=y HTTP/1.1", Method::Head, "/connect"),
        ("POST /warm-start HTTP/1.1", Method::Post, "/warm-start"),
        ("OPTIONS * HTTP/1.1", Method::Options, "*"),
        ("OPTIONS http://a HTTP/1.1", Method::Options, "*"),
        ("GET http://a/connect HTTP/1.1", Method::Get, "/connect"),
        ("GET HTTP://A?q HTTP/1.1", Method::Get, "/"),
        ("DELETE /x HTTP/1.1", Method::Other("DELETE"), "/x"),
        ("get /x HTTP/1.1", Method::Other("get"), "/x"),
        ("!#$%&'*+-.^_`|~09aZ / HTTP/1.1", Method::Other("!#$%&'*+-.^_`|~09aZ"), "/"),
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        let head = head(text.as_bytes()).unwrap_or_else(|r| panic!("{line}: {r:?}"));
        assert_eq!((head.method, head.target), (method, target), "{line}");
    }
}

#[test]
fn refuses_request_lines() {
    for (line, status) in [
        // RFC 9112 section 3: one space, nothing else, between the parts.
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET /\tHTTP/1.1", 400),
        ("GET / HTTP/1.1 x", 400),
        ("GET / x HTTP/1.1", 400),
        ("GET HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("", 400),
        // Section 3.1: a method is a token.
        ("G\u{1b}T / HTTP/1.1", 400),
        ("G@T / HTTP/1.1", 400),
        ("GET: / HTTP/1.1", 400),
        ("GÉT / HTTP/1.1", 400),
        // Section 3.2: the four forms of a target.
        ("GET connect HTTP/1.1", 400),
        ("GET a:80 HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET /# HTTP/1.1", 400),
        ("GET /\" HTTP/1.1", 400),
        ("GET /é HTTP/1.1", 400),
        ("GET /\x7f HTTP/1.1", 400),
        ("GET /%x HTTP/1.1", 400),
        ("GET ftp://a/ HTTP/1.1", 400),
        ("GET http:/a HTTP/1.1", 400),
        ("GET http:///a HTTP/1.1", 400),
        ("GET http://u@a/ HTTP/1.1", 400),
        ("OPTIONS *a HTTP/1.1", 400),
        ("CONNECT a:80 HTTP/1.1", 501),
        ("CONNECT / HTTP/1.1", 501),
        // Section 2.3 and RFC 9110 section 15.6.6.
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/9.9", 505),
        ("GET / HTTP/2.0 x", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/11.1", 400),
        ("GET / HTTP/1.", 400),
        ("GET / HTTP/1", 400),
        ("GET / HTTP/2", 400),
        ("GET / HTTP/-1.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP 1.1", 400),
        ("GET / HTTP/1,1", 400),
        ("GET / HTTP/ 1.1", 400),
        ("GET / HTTPS/1.1", 400),
        ("GET / HTTP/1.1\u{b}", 400),
    ] {
        let rejection = refusal(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(rejection.status, status, "{line}: {rejection:?}");
    }
}

#[test]
fn checks_fields_and_lines() {
    for good in [
        "A:b\r\n",
        "a: \t b \t \r\n",
        "a:\r\n",
        "a: \r\n",
        "a: caf\u{e9} \u{20ac}\r\n",
        "!#$%&'*+-.^_`|~0: x\r\n",
        "a: x: y\tz\r\n",
        "Content_Length: x\r\n",
    ] {
        assert!(head(with(good).as_bytes()).is_ok(), "{good:?}");
    }
    for bad in [
        // RFC 9112 section 5.1: no white space between name and colon.
        "a : b\r\n",
        "a\t: b\r\n",
        "Content-Length : 1\r\n",
        // Section 5.2: folded lines.
        " a: b\r\n",
        "a: b\r\n c\r\n",
        "a: b\r\n\tc: d\r\n",
        "a:\r\n b\r\n",
        "a: b\r\n \r\n",
        // RFC 9110 sections 5.1 and 5.5.
        ": b\r\n",
        "a\r\n",
        "a b: c\r\n",
        "a\"b: c\r\n",
        "a(b): c\r\n",
        "é: c\r\n",
        "a: b\x7f\r\n",
        "a: b\x1b\r\n",
        "a: \x0b\r\n",
        "a\0: b\r\n",
        "a: b\0\r\n",
        "a: b\rc: d\r\n",
        "a: b\nc: d\r\n",
        "a: b\r\r\n",
        "a: b\r\n\n",
    ] {
        assert_eq!(refusal(&with(bad)).status, 400, "{bad:?}");
    }
    let first = get("1.1", " Host: a\r\nHost: a\r\n");
    assert_eq!(refusal(&first).status, 400, "folded behind the request line");
}

#[test]
fn limits_the_number_of_fields() {
    let fields = |count: usize| with(&"a: b\r\n".repeat(count - 1));
    assert!(head(fields(HEADER_FIELDS_MAX).as_bytes()).is_ok());
    assert_eq!(refusal(&fields(HEADER_FIELDS_MAX + 1)).status, 431);
}

/// RFC 9112 section 3.2.
#[test]
fn checks_host() {
    for (version, lines, status) in [
        ("1.1", "", Some(400)),
        ("1.0", "", None),
        ("1.1", "Host: a\r\n", None),
        ("1.1", "HOST:a:80\r\n", None),
        ("1.1", "Host:\r\n", None),
        ("1.1", "Host: [::1]:80\r\n", None),
        ("1.1", "Host: a\r\nHost: a\r\n", Some(400)),
        ("1.1", "Host: a\r\nhost: b\r\n", Some(400)),
        ("1.1", "Host:\r\nHost:\r\n", Some(400)),
        ("1.0", "Host: a\r\nHost: a\r\n", Some(400)),
        ("1.1", "Host: a b\r\n", Some(400)),
        ("1.1", "Host: a, b\r\n", Some(400)),
        ("1.1", "Host: a/b\r\n", Some(400)),
        ("1.1", "Host: u@a\r\n", Some(400)),
        ("1.1", "Host: a:b\r\n", Some(400)),
        ("1.1", "Host: http://a\r\n", Some(400)),
        ("1.0", "Host: \"a\"\r\n", Some(400)),
    ] {
        let text = get(version, lines);
        let found = head(text.as_bytes()).err().map(|r| r.status);
        assert_eq!(found, status, "{version} {lines:?}");
    }
    // Section 3.2.2, and stricter: proxies that route by one and us by the other must agree.
    for (authority, lines, good) in [
        ("a", "Host: a\r\n", true),
        ("A:80", "Host: a:80\r\n", true),
        ("[::1]", "Host: [::1]\r\n", true),
        ("a", "Host: b\r\n", false),
        ("a:80", "Host: a\r\n", false),
        ("a", "Host:\r\n", false),
        ("a", "", false),
    ] {
        let text = format!("GET http://{authority}/connect HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(head(text.as_bytes()).is_ok(), good, "{text:?}");
    }
    let old = head(b"GET http://a/connect HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((old.target, old.version), ("/connect", Version::Http10));
}

/// RFC 9112 section 9.3, RFC 9110 section 7.6.1.
#[test]
fn keep_alive_follows_version_and_connection() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.0", "", false),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive, x\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: x\r\nConnection: y , KEEP-ALIVE\r\n", true),
        ("1.1", "Connection: x ,\tCLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: closed, close-d, xclose, c\r\n", true),
        ("1.1", "Connection: , ,\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ] {
        let text = get(version, &format!("Host: a\r\n{lines}"));
        let head = head(text.as_bytes()).unwrap();
        assert_eq!(head.keep_alive, keep_alive, "{version} {lines:?}");
        let persistence = match (keep_alive, version) {
            (false, _) => Persistence::Close,
            (true, "1.0") => Persistence::KeepAliveHttp10,
            (true, _) => Persistence::KeepAlive,
        };
        assert_eq!(head.persistence(), persistence);
    }
}

/// RFC 9112 section 6.
#[test]
fn framing_follows_length_and_coding() {
    use Framing::*;
    for (lines, expected) in [
        ("", Ok(None)),
        ("Content-Length: 0\r\n", Ok(Length(0))),
        ("content-length:5\r\n", Ok(Length(5))),
        ("Content-Length:\t0042 \r\n", Ok(Length(42))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Length(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(400)),
        ("Content-Length: 99999999999999999999999999\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        ("Content-Length: \t\r\n", Err(400)),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: 5,\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5.0\r\n", Err(400)),
        ("Content-Length: 1e3\r\n", Err(400)),
        ("Content-Length: 1_0\r\n", Err(400)),
        ("Content-Length: \"5\"\r\n", Err(400)),
        ("Content-Length: ５\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        ("Content-Length: 5\r\nA: b\r\ncontent-length: 0\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
        ("TRANSFER-ENCODING:CHUNKED \r\n", Ok(Chunked)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", Err(400)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Err(400)),
        ("Transfer-Encoding: chunked, identity\r\n", Err(400)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip;q=1, chunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip\r\n", Err(501)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked;a=b\r\n", Err(400)),
        ("Transfer-Encoding: chunked chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked=1\r\n", Err(400)),
        ("Transfer-Encoding: chunked,\r\n", Err(400)),
        ("Transfer-Encoding: , chunked\r\n", Err(400)),
        ("Transfer-Encoding:\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Err(400)),
        ("Transfer-Encoding: \x0bchunked\r\n", Err(400)),
        ("Transfer-Encoding: chunk\r\n ed\r\n", Err(400)),
        ("Transfer-Encoding : chunked\r\n", Err(400)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(501)),
        ("TE: chunked\r\n", Ok(None)),
    ] {
        let text = with(lines);
        let found = head(text.as_bytes()).map(|h| h.framing).map_err(|r| r.status);
        assert_eq!(found, expected, "{lines:?}");
    }
    // Section 6.1: HTTP/1.0 has no transfer codings.
    let old = get("1.0", "Transfer-Encoding: chunked\r\n");
    assert_eq!(refusal(&old).status, 400);
    let old = get("1.0", "Content-Length: 5\r\n");
    assert_eq!(head(old.as_bytes()).unwrap().framing, Length(5));
}

/// RFC 9110 section 10.1.1.
#[test]
fn accepts_only_100_continue() {
    for (version, lines, expected) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(true)),
        ("1.1", "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", Ok(true)),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", Ok(false)),
        ("1.1", "Expect: 100-continue\r\n", Ok(false)),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(false)),
        ("1.1", "Content-Length: 1\r\n", Ok(false)),
        ("1.1", "Expect: 200-ok\r\n", Err(417)),
        ("1.1", "Expect: 100-continue, x\r\n", Err(417)),
        ("1.1", "Expect:\r\n", Err(417)),
        ("1.1", "Expect: 100-continue\r\nExpect: x\r\n", Err(417)),
    ] {
        let text = get(version, &format!("Host: a\r\n{lines}"));
        let found = head(text.as_bytes()).map(|h| h.expect_continue).map_err(|r| r.status);
        assert_eq!(found, expected, "{version} {lines:?}");
    }
}

#[test]
fn refuses_anything_but_one_head() {
    for (bytes, status) in [
        (&b""[..], 400),
        (b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        let found = parse_head::<Plain>(bytes).map_err(|r| r.status);
        assert_eq!(found.err(), Some(status), "{}", bytes.escape_ascii());
    }
}

/// Heads that are well-formed or nearly so.
pub(super) fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /warm-start HTTP/1.1",
        "GET http://a/ HTTP/1.0",
        "OPTIONS * HTTP/1.1",
    ]);
    let known = prop::sample::select(vec![
        ("Host", "a"),
        ("Connection", "close"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
        ("x-trigger-machine-cpu", "0.5"),
        ("x-trigger-deployment-id", "d"),
    ]);
    let space = || prop_oneof![4 => Just(String::new()), 1 => "[ \t]{1,2}"];
    let field = prop_oneof![
        (known, space(), space())
            .prop_map(|((name, value), before, behind)| format!("{name}: {before}{value}{behind}")),
        "[a-zA-Z-]{1,12}:[ \t]{0,2}[ -~]{0,20}",
    ];
    let damage = prop::option::weighted(0.7, (any::<u16>(), any::<u8>(), any::<bool>()));
    let fields = prop::collection::vec(field, 0..6);
    (line, fields, damage).prop_map(|(line, fields, damage)| {
        let mut bytes = format!("{line}\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes();
        if let Some((place, byte, insert)) = damage {
            let at = bytes.len() * usize::from(place) / 65_536;
            bytes.splice(at..at + usize::from(!insert), [byte]);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// httparse accepts every head that we accept, and reads it the same way.
    #[test]
    fn never_more_lenient_than_httparse(bytes in heads()) {
        let Ok(Some(len)) = HeadScanner::default().advance(&bytes, 16 * 1024) else {
            return Ok(());
        };
        let mut slots = [httparse::EMPTY_HEADER; HEADER_FIELDS_MAX];
        let mut request = httparse::Request::new(&mut slots);
        let theirs = request.parse(&bytes[..len]);
        match head(&bytes) {
            Ok(head) => {
                prop_assert_eq!(theirs, Ok(httparse::Status::Complete(len)));
                let named = |name: &str| {
                    let same = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
                    same.map(|h| h.value).collect::<Vec<_>>()
                };
                let framing = match (&named("content-length")[..], &named("transfer-encoding")[..]) {
                    ([], []) => Framing::None,
                    ([digits], []) => {
                        Framing::Length(std::str::from_utf8(digits).unwrap().parse().unwrap())
                    }
                    ([], [_]) => Framing::Chunked,
                    both => panic!("accepted {both:?}"),
                };
                prop_assert_eq!(head.framing, framing);
                let hosts = named("host").len();
                prop_assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10));
            }
            Err(rejection) => prop_assert!((400..=505).contains(&rejection.status)),
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse_head::<Plain>(&bytes);
    }
}
