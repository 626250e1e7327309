//! Polls: requests that are held, and requests that are not.

use super::*;

const KEY: &str = "x-trigger-deployment-id: @KEY@\r\nx-trigger-deployment-version: 20260728.3\r\n\
                   x-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 0.25\r\n";

fn poll(fields: &str) -> String {
    format!("GET /warm-start HTTP/1.1\r\nHost: broker\r\n{KEY}{fields}\r\n")
}

pub fn cases() -> Vec<Case> {
    vec![
        case("a poll", "the contract", poll(""), Hold),
        case(
            "a poll with names in upper case",
            "RFC 9110 5.1",
            poll("").replace("x-trigger", "X-TRIGGER"),
            Hold,
        ),
        case(
            "a poll with white space around values",
            "RFC 9112 5",
            poll("").replace(": ", ":\t  ").replace("\r\nx-", "  \r\nx-"),
            Hold,
        ),
        case(
            "a poll with a query",
            "RFC 9112 3.2.1",
            poll("").replace("/warm-start", "/warm-start?a=b"),
            Hold,
        ),
        case(
            "a poll in absolute-form",
            "RFC 9112 3.2.2",
            poll("").replace("/warm-start", "http://broker/warm-start"),
            Hold,
        ),
        case("a poll with a length of 0", "RFC 9110 8.6", poll("Content-Length: 0\r\n"), Hold),
        case("a poll that expects 100-continue", "RFC 9110 10.1.1", poll("Expect: 100-continue\r\n"), Hold),
        case(
            "a poll that asks for an upgrade",
            "RFC 9110 7.8",
            poll("Connection: Upgrade\r\nUpgrade: h2c\r\n"),
            Hold,
        ),
        case("a poll of 15 KiB", "RFC 9110 5.4", poll(&format!("X: {}\r\n", "y".repeat(15_360))), Hold),
        case("a poll after an empty line", "RFC 9112 2.2", format!("\r\n{}", poll("")), Hold),
        case("a poll with a body", "RFC 9110 9.3.1", poll("Content-Length: 5\r\n") + "hello", BAD),
        case(
            "a poll with a chunked body",
            "RFC 9110 9.3.1",
            poll("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            BAD,
        ),
        case("a poll without its key", "the contract", line("GET /warm-start HTTP/1.1"), BAD),
        case("a poll with two machines", "the contract", poll("X-Trigger-Machine-Cpu: 0.5\r\n"), BAD),
        case(
            "a poll with a value that is not UTF-8",
            "the contract",
            poll("x-trigger-worker-instance-name: \u{ff}\r\n"),
            BAD,
        ),
        case("HEAD does not poll", "RFC 9110 9.3.2", poll("").replace("GET", "HEAD"), RefuseHead(405)),
        case("half a poll", "the contract", poll("")[..100].to_owned(), Wait),
    ]
}
