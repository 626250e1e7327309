//! Connection, Expect and Upgrade: whether the connection stays open.

use super::*;

fn connection(value: &str) -> String {
    get(&format!("Connection: {value}\r\n"))
}

fn http_1_0(fields: &str) -> String {
    format!("GET /connect HTTP/1.0\r\nHost: broker\r\n{fields}\r\n")
}

fn expects(fields: &str) -> String {
    sized(&format!("Content-Length: 128\r\n{fields}"))
}

pub fn cases() -> Vec<Case> {
    vec![
        case("keep-alive", "RFC 9112 9.3; llhttp connection.md", connection("keep-alive"), OK),
        case(
            "close",
            "RFC 9112 9.6; Go readrequest_test: Connection: close",
            connection("close"),
            Close(&[200]),
        ),
        case("close in another letter case", "RFC 9110 7.6.1", connection("CLOSE"), Close(&[200])),
        case("close in a list", "RFC 9110 7.6.1", connection("foo,\tclose , bar"), Close(&[200])),
        case(
            "close and keep-alive",
            "RFC 9112 9.3; llhttp connection.md: Parsing multiple tokens",
            connection("close, token, upgrade, token, keep-alive"),
            Close(&[200]),
        ),
        case(
            "close in a second field",
            "RFC 9110 5.3",
            get("Connection: keep-alive\r\nConnection: close\r\n"),
            Close(&[200]),
        ),
        case(
            "close on a dispatch",
            "RFC 9112 9.6; llhttp connection.md: explicit close",
            expects("Connection: close"),
            Close(&[200]),
        ),
        case(
            "close on a chunked dispatch",
            "RFC 9112 9.6",
            coded("Transfer-Encoding: chunked\r\nConnection: close"),
            Close(&[200]),
        ),
        case(
            "close on the second of two",
            "RFC 9112 9.6",
            get("") + &connection("close"),
            Close(&[200, 200]),
        ),
        case("close and empty members", "RFC 9110 5.6.1", connection(", ,close,,"), Close(&[200])),
        case(
            "something that is not quite close",
            "RFC 9110 7.6.1",
            connection("closed, clos, close;q=1, \"close\""),
            OK,
        ),
        case("an empty Connection", "RFC 9110 7.6.1", connection(""), OK),
        case("an unknown option", "RFC 9110 7.6.1", connection("TE, x-unknown"), OK),
        case("Proxy-Connection", "RFC 9112 C.2.2", get("Proxy-Connection: close\r\n"), OK),
        case(
            "Keep-Alive",
            "RFC 9112 C.2.2",
            get("Keep-Alive: timeout=5, max=1\r\nConnection: keep-alive\r\n"),
            OK,
        ),
        // HTTP/1.0.
        case(
            "HTTP/1.0 closes",
            "RFC 9112 9.3; llhttp connection.md: keep-alive is off (1.0)",
            http_1_0("X: y\r\n"),
            Close(&[200]),
        ),
        case("HTTP/1.0 with keep-alive", "RFC 9112 9.3", http_1_0("Connection: Keep-Alive\r\n"), OK),
        case(
            "HTTP/1.0 with keep-alive and close",
            "RFC 9112 9.3",
            http_1_0("Connection: keep-alive, close\r\n"),
            Close(&[200]),
        ),
        case(
            "a dispatch in HTTP/1.0",
            "RFC 9112 9.3",
            sized("Content-Length: 128").replace("1.1", "1.0"),
            Close(&[200]),
        ),
        case(
            "a dispatch in HTTP/1.0 without a length",
            "RFC 9110 15.5.12",
            post("", BODY).replace("1.1", "1.0"),
            LENGTH_REQUIRED,
        ),
        // Upgrades are ignored (RFC 9110 section 7.8).
        case(
            "an upgrade to WebSocket",
            "RFC 9110 7.8; llhttp connection.md: Upgrade GET request",
            get(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            ),
            OK,
        ),
        case(
            "an upgrade to h2c",
            "RFC 9110 7.8; request smuggling: h2c",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
            OK,
        ),
        case(
            "an upgrade of a dispatch",
            "llhttp connection.md: Upgrade POST request",
            expects("Connection: Upgrade\r\nUpgrade: HTTP/2.0"),
            OK,
        ),
        case("TLS", "RFC 9112 3", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", BAD),
        // Expect (RFC 9110 section 10.1.1).
        case("100-continue", "RFC 9110 10.1.1", expects("Expect: 100-continue"), OK),
        case("100-continue in another letter case", "RFC 9110 10.1.1", expects("expect: 100-CONTINUE"), OK),
        case(
            "100-continue twice",
            "RFC 9110 10.1.1",
            expects("Expect: 100-continue\r\nExpect: 100-continue"),
            OK,
        ),
        case(
            "100-continue and a chunked body",
            "RFC 9110 10.1.1",
            coded("Transfer-Encoding: chunked\r\nExpect: 100-continue"),
            OK,
        ),
        case(
            "100-continue without a body",
            "RFC 9110 10.1.1; h1spec: Request with Expect header",
            get("Expect: 100-continue\r\n"),
            OK,
        ),
        case(
            "100-continue in HTTP/1.0",
            "RFC 9110 10.1.1",
            expects("Expect: 100-continue\r\nConnection: keep-alive").replace("HTTP/1.1", "HTTP/1.0"),
            OK,
        ),
        case(
            "100-continue and a length above the limit",
            "RFC 9110 10.1.1",
            post("Content-Length: 16777217\r\nExpect: 100-continue\r\n", ""),
            Refuse(&[413]),
        ),
        case(
            "100-continue and no length",
            "RFC 9110 10.1.1",
            post("Expect: 100-continue\r\n", ""),
            LENGTH_REQUIRED,
        ),
        case("another expectation", "RFC 9110 15.5.18", expects("Expect: 200-ok"), Refuse(&[417])),
        case(
            "another expectation besides",
            "RFC 9110 10.1.1",
            expects("Expect: 100-continue, 200-ok"),
            Refuse(&[417]),
        ),
        case("an empty expectation", "RFC 9110 10.1.1", get("Expect:\r\n"), Refuse(&[417])),
        // Refusals among good requests.
        case(
            "a bad request after two good ones",
            "RFC 9112 9.3.2",
            get("") + &sized("Content-Length: 128") + &bare("X: y\r\n"),
            Refuse(&[200, 200, 400]),
        ),
        case(
            "an unknown path after a good request",
            "RFC 9112 9.3.2",
            get("") + &line("GET /nowhere HTTP/1.1"),
            Refuse(&[200, 404]),
        ),
        case("a body that is not JSON", "RFC 8259", post("Content-Length: 5\r\n", "hello"), BAD),
    ]
}
