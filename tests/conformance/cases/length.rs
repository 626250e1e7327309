//! Content-Length.

use super::*;

pub fn cases() -> Vec<Case> {
    let lengths =
        |first: &str, second: &str| sized(&format!("Content-Length: {first}\r\nContent-Length: {second}"));
    vec![
        case("a dispatch", "RFC 9112 6.2", sized("Content-Length: 128"), OK),
        case("two dispatches", "RFC 9112 9.3.2", sized("Content-Length: 128").repeat(2), Clean(&[200, 200])),
        case("a body that was not announced so long", "RFC 9112 6.3", sized("Content-Length: 127"), BAD),
        case(
            "something behind a body",
            "RFC 9112 6.3",
            sized("Content-Length: 128") + "x",
            Refuse(&[200, 501]),
        ),
        case("leading zeroes", "RFC 9110 8.6; llhttp content-length.md", sized("Content-Length: 00128"), OK),
        case(
            "leading zeroes that are not octal",
            "HTTP Garden: server bug 32",
            post("Content-Length: 010\r\n", "01234567  "),
            BAD,
        ),
        case(
            "white space around a length",
            "llhttp content-length.md: Spaces (surrounding)",
            sized("Content-Length: \t 128 \t"),
            OK,
        ),
        case(
            "a name in another letter case",
            "llhttp content-length.md: Funky Content-Length",
            sized("conTENT-LENGTH: 128"),
            OK,
        ),
        case("no length", "RFC 9110 15.5.12", post("", ""), LENGTH_REQUIRED),
        case("no length and a body", "RFC 9112 6.3", post("", BODY), LENGTH_REQUIRED),
        case("a length of 0", "RFC 9112 6.3", post("Content-Length: 0\r\n", ""), BAD),
        case("a GET with a length of 0", "RFC 9110 8.6", get("Content-Length: 0\r\n"), OK),
        case(
            "a GET with a body",
            "RFC 9110 9.3.1; Go readrequest_test: baseline",
            get("Content-Length: 5\r\n") + "hello",
            BAD,
        ),
        case(
            "an OPTIONS with a body",
            "RFC 9110 9.3.7",
            "OPTIONS * HTTP/1.1\r\nHost: broker\r\nContent-Length: 2\r\n\r\n{}",
            BAD,
        ),
        case(
            "a DELETE with a body",
            "RFC 9110 9.3.5",
            "DELETE /connect HTTP/1.1\r\nHost: broker\r\nContent-Length: 2\r\n\r\n{}",
            Refuse(&[405]),
        ),
        case(
            "a HEAD with a length of 0",
            "Go readrequest_test: HEAD with Content-Length 0",
            "HEAD /nowhere HTTP/1.1\r\nHost: broker\r\nContent-Length: 0\r\n\r\n",
            RefuseHead(404),
        ),
        case(
            "a HEAD with a body",
            "RFC 9110 9.3.2",
            "HEAD /connect HTTP/1.1\r\nHost: broker\r\nContent-Length: 4\r\n\r\n1234",
            RefuseHead(400),
        ),
        // More than one.
        case(
            "two lengths",
            "RFC 9112 6.3; Go readrequest_test: smuggle_two_contentlen",
            lengths("3", "128"),
            BAD,
        ),
        case(
            "two lengths, the other way round",
            "HTTP Garden: server bugs 23 and 33",
            lengths("128", "0"),
            BAD,
        ),
        case("the same length twice", "RFC 9112 6.3", lengths("128", "128"), BAD),
        case("an empty length and a length", "HTTP Garden: server bug 42", lengths("", "128"), BAD),
        case("a length and an empty one", "HTTP Garden: server bug 42", lengths("128", ""), BAD),
        case("a list of lengths", "RFC 9112 6.3", sized("Content-Length: 128, 128"), BAD),
        case("a list of differing lengths", "RFC 9112 6.3", sized("Content-Length: 3,128"), BAD),
        case("a list with an empty member", "RFC 9112 6.3", sized("Content-Length: 128,"), BAD),
        // No number.
        case(
            "an empty length",
            "HTTP Garden: server bugs 16 and 38; llhttp content-length.md: Empty",
            post("Content-Length:\r\n", ""),
            BAD,
        ),
        case("an empty length on GET", "HTTP Garden: server bug 16", get("Content-Length: \r\n"), BAD),
        case("a plus sign", "HTTP Garden: server bug 10", sized("Content-Length: +128"), BAD),
        case("a minus sign", "h1spec: Negative Content-Length header", sized("Content-Length: -1234"), BAD),
        case("minus 48", "HTTP Garden: server bug 26", get("Content-Length: -48\r\n"), BAD),
        case("minus 0", "RFC 9110 8.6", get("Content-Length: -0\r\n"), BAD),
        case(
            "a long negative number",
            "h1spec: Overflowing negative Content-Length header",
            get("Content-Length: -123456789123456789123456789\r\n"),
            BAD,
        ),
        case("letters", "h1spec: Non-numeric Content-Length header", sized("Content-Length: abc"), BAD),
        case("hexadecimal", "HTTP Garden: server bug 29", sized("Content-Length: 0x80"), BAD),
        case("a number and a letter", "HTTP Garden: server bug 29", sized("Content-Length: 128Z"), BAD),
        case("an underscore", "HTTP Garden: server bug 10", sized("Content-Length: 1_28"), BAD),
        case("a decimal point", "RFC 9110 8.6", sized("Content-Length: 128.0"), BAD),
        case("an exponent", "RFC 9110 8.6", sized("Content-Length: 128e0"), BAD),
        case("quotes", "RFC 9110 8.6", sized("Content-Length: \"128\""), BAD),
        case("a space within", "llhttp content-length.md: Spaces #2", sized("Content-Length: 12 8"), BAD),
        case("a tab within", "RFC 9110 8.6", sized("Content-Length: 12\t8"), BAD),
        case("a parameter", "RFC 9110 8.6", sized("Content-Length: 128;a"), BAD),
        case(
            "digits of another script",
            "RFC 9110 8.6",
            sized("Content-Length: \u{d9}\u{a1}\u{d9}\u{a2}\u{d9}\u{a8}"),
            BAD,
        ),
        case(
            "a no-break space in front",
            "HTTP Garden: server bug 41",
            sized("Content-Length: \u{a0}128"),
            BAD,
        ),
        case(
            "a vertical tab in front",
            "http-request-smuggler: prefix1:11",
            sized("Content-Length: \u{b}128"),
            BAD,
        ),
        case("a NUL behind", "http-request-smuggler: suffix1:0", sized("Content-Length: 128\0"), BAD),
        // Too large.
        case(
            "the largest number there is",
            "RFC 9110 15.5.14",
            sized("Content-Length: 18446744073709551615"),
            Refuse(&[413]),
        ),
        case(
            "one more than that",
            "llhttp content-length.md: overflow",
            sized("Content-Length: 18446744073709551616"),
            BAD,
        ),
        case(
            "a number of 22 digits",
            "llhttp content-length.md: overflow",
            sized("Content-Length: 1000000000000000000000"),
            BAD,
        ),
        case(
            "a number that wraps round to 128",
            "RFC 9112 6.3",
            sized("Content-Length: 18446744073709551744"),
            BAD,
        ),
        case(
            "128 behind 1,000 zeroes",
            "RFC 9110 8.6",
            sized(&format!("Content-Length: {}128", "0".repeat(1_000))),
            OK,
        ),
        case(
            "a byte more than the limit",
            "RFC 9110 15.5.14",
            sized("Content-Length: 16777217"),
            Refuse(&[413]),
        ),
        // Not the name.
        case(
            "an underscore in the name",
            "http-request-smuggler: underjoin1",
            sized("Content_Length: 128"),
            LENGTH_REQUIRED,
        ),
        case("a space in the name", "http-request-smuggler: spacejoin1", sized("Content Length: 128"), BAD),
        case(
            "a CR in the name",
            "llhttp content-length.md: CR instead of dash",
            sized("Content\rLength: 128"),
            BAD,
        ),
        case("a space behind the name", "HTTP Garden: server bug 3", sized("Content-Length : 128"), BAD),
        case(
            "a space before the name",
            "HTTP Garden: server bug 4; llhttp invalid.md: Spaces before headers",
            sized("X: y\r\n Content-Length: 128"),
            BAD,
        ),
        case(
            "a next line behind the name",
            "HTTP Garden: server bug 20",
            sized("Content-Length\u{85}: 128"),
            BAD,
        ),
        case(
            "a field that is folded around the length",
            "http-request-smuggler: badwrap",
            sized("Content-Length:\r\n 128"),
            BAD,
        ),
        // What is in a body stays in it.
        case(
            "a body that is a request",
            "request smuggling: CL.0",
            post("Content-Length: 38\r\n", "GET /connect HTTP/1.1\r\nHost: broker\r\n\r\n"),
            BAD,
        ),
        case("a body that does not come", "RFC 9112 6.3", post("Content-Length: 1000\r\n", BODY), Wait),
        case("a body of which nothing comes", "RFC 9112 6.3", post("Content-Length: 1000\r\n", ""), Wait),
    ]
}
