//! Chunked bodies.

use super::*;

/// `BODY` in one chunk with this size line.
fn size(line: &str) -> String {
    chunked(&one_chunk(line, ""))
}

/// `BODY` in one chunk, and these trailer fields.
fn trailers(fields: &str) -> String {
    chunked(&one_chunk("80", fields))
}

pub fn cases() -> Vec<Case> {
    let (first, second) = BODY.split_at(30);
    vec![
        case("two bodies of one chunk", "RFC 9112 9.3.2", size("80").repeat(2), Clean(&[200, 200])),
        case(
            "two chunks",
            "RFC 9112 7.1; llhttp transfer-encoding.md",
            chunked(&format!("1e\r\n{first}\r\n62\r\n{second}\r\n000\r\n\r\n")),
            OK,
        ),
        case(
            "a size in upper case",
            "llhttp transfer-encoding.md: uppercase size",
            chunked(&format!("1E\r\n{first}\r\n62\r\n{second}\r\n0\r\n\r\n")),
            OK,
        ),
        case(
            "a chunk per byte",
            "RFC 9112 7.1",
            chunked(&(BODY.chars().map(|c| format!("1\r\n{c}\r\n")).collect::<String>() + "0\r\n\r\n")),
            OK,
        ),
        case("a size of 16 digits", "Go chunked_test: TestParseHexUint", size("0000000000000080"), OK),
        case("no data", "RFC 9112 7.1", chunked("0\r\n\r\n"), BAD),
        // Extensions (RFC 9112 section 7.1.1).
        case("an extension", "picohttpparser test.c: comment", size("80;comment=hi"), OK),
        case(
            "extensions",
            "llhttp transfer-encoding.md: Chunk extensions",
            size("80;ilovew3;somuchlove=aretheseparametersfor;another=withvalue"),
            OK,
        ),
        case(
            "quoted extensions",
            "llhttp transfer-encoding.md: Chunk extensions quoting",
            size("80;ilovew3=\"I \\\"love\\\"; \\\\extensions\\\\\";blah;foo=bar"),
            OK,
        ),
        case("an extension after white space", "RFC 9112 7.1.1", size("80 ; a = b\t;c"), OK),
        case(
            "an extension of the last chunk",
            "Go chunked_test: TestChunkReadingIgnoresExtensions",
            chunked(&format!("80\r\n{BODY}\r\n0;someextension=sometoken\r\n\r\n")),
            OK,
        ),
        case("a quoted value that looks like a chunk", "RFC 9112 7.1.1", size("80;a=\"0;0;b\""), OK),
        case(
            "nothing after a semicolon",
            "llhttp transfer-encoding.md: No extension after semicolon",
            size("80;"),
            BAD,
        ),
        case(
            "no semicolon",
            "llhttp transfer-encoding.md: No semicolon before chunk extensions",
            size("80 erfrferferf"),
            BAD,
        ),
        case(
            "a quote that does not end",
            "llhttp transfer-encoding.md: Unbalanced chunk extensions quoting",
            size("80;a=\"abc\";b=\"def; ghi"),
            BAD,
        ),
        case("two semicolons", "RFC 9112 7.1.1", size("80;;a"), BAD),
        case("an extension without a name", "RFC 9112 7.1.1", size("80;=b"), BAD),
        case("an extension without its value", "RFC 9112 7.1.1", size("80;a="), BAD),
        case("a space after an extension", "RFC 9112 7.1.1", size("80;a "), BAD),
        case("a NUL in an extension", "RFC 9112 7.1.1", size("80;a\0"), BAD),
        case("a NUL in a quoted value", "RFC 9110 5.6.4", size("80;a=\"\0\""), BAD),
        case("an LF in an extension", "Funky Chunks: TERM.EXT", size("80;a\nb"), BAD),
        case("an LF in a quoted value", "Funky Chunks: TERM.EXT", size("80;a=\"\n\""), BAD),
        case("a CR in an extension", "HTTP Garden: server bug 36", size("80;a=b\r\rX"), BAD),
        case(
            "a CR after a semicolon",
            "HTTP Garden: server bug 31; llhttp transfer-encoding.md: not terminated by CRLF",
            size("5\r\r;ABCD"),
            BAD,
        ),
        case("a high byte in an extension", "RFC 9110 5.6.2", size("80;\u{e9}"), BAD),
        case(
            "extensions of 17 KiB",
            "RFC 9112 7.1.1",
            size(&format!("80;{}", "a".repeat(17 << 10))),
            Refuse(&[413]),
        ),
        // Sizes.
        case("no size", "HTTP Garden: server bug 17", size(""), BAD),
        case("an extension instead of a size", "RFC 9112 7.1", size(";a"), BAD),
        case("a minus sign", "HTTP Garden: server bug 25", size("-80"), BAD),
        case("a plus sign", "HTTP Garden: server bug 25", size("+80"), BAD),
        case("0x", "HTTP Garden: server bugs 1 and 25", size("0x80"), BAD),
        case("an underscore", "HTTP Garden: server bugs 1 and 22", size("0_80"), BAD),
        case(
            "a letter that is not a digit",
            "picohttpparser test.c: failures; Go chunked_test",
            chunked("z\r\nabcdefg"),
            BAD,
        ),
        case("a space in front", "RFC 9112 7.1", size(" 80"), BAD),
        case("a space at the end", "llhttp transfer-encoding.md: Space after chunk header", size("80 "), BAD),
        case("a tab at the end", "RFC 9112 7.1", size("80\t"), BAD),
        case(
            "a space and an LF at the end",
            "llhttp transfer-encoding.md: Validate chunk parameters",
            size("80 \n  "),
            BAD,
        ),
        case("two numbers", "RFC 9112 7.1", size("8 0"), BAD),
        case("a NUL", "RFC 9112 7.1", size("80\0"), BAD),
        case("digits of another script", "RFC 9112 7.1", size("\u{d9}\u{a8}"), BAD),
        case("17 digits", "Go chunked_test: TestParseHexUint", size("00000000000000080"), BAD),
        case(
            "a size of 2^64",
            "Go chunked_test: TestParseHexUint; picohttpparser test.c",
            size("10000000000000000"),
            BAD,
        ),
        case(
            "a size of 2^64 and 128",
            "RFC 9112 7.1: integer conversion overflow",
            size("10000000000000080"),
            BAD,
        ),
        case(
            "a size of 2^64 - 1",
            "picohttpparser test.c: failures",
            size("ffffffffffffffff"),
            Refuse(&[413]),
        ),
        case(
            "a second chunk of 2^64 - 1",
            "picohttpparser test.c: failures",
            chunked(&format!("1e\r\n{first}\r\nffffffffffffffff\r\n")),
            Refuse(&[413]),
        ),
        case("a size above the limit", "RFC 9110 15.5.14", size("1000001"), Refuse(&[413])),
        // Line ends.
        case(
            "a size that ends in LF",
            "picohttpparser test.c: chunked-consume-trailer",
            chunked(&format!("80\n{BODY}\r\n0\r\n\r\n")),
            BAD,
        ),
        case("a size that ends in CR", "RFC 9112 2.2", chunked(&format!("80\r{BODY}\r\n0\r\n\r\n")), BAD),
        case("data that ends in LF", "RFC 9112 7.1", chunked(&format!("80\r\n{BODY}\n0\r\n\r\n")), BAD),
        case(
            "data that ends in nothing",
            "llhttp transfer-encoding.md: Chunk data not terminated by CRLF",
            chunked(&format!("80\r\n{BODY}0\r\n\r\n")),
            BAD,
        ),
        case(
            "data that ends in two other bytes",
            "Funky Chunks: TERM.SPILL",
            chunked(&format!("80\r\n{BODY}xx0\r\n\r\n")),
            BAD,
        ),
        case(
            "data longer than its size",
            "RFC 9112 7.1; Go chunked_test: TestChunkReadPartial",
            chunked(&format!("7f\r\n{BODY}\r\n0\r\n\r\n")),
            BAD,
        ),
        case(
            "data shorter than its size",
            "RFC 9112 7.1",
            chunked(&format!("81\r\n{BODY}\r\n0\r\n\r\n")),
            BAD,
        ),
        case(
            "an empty line between chunks",
            "HTTP Garden: server bug 17",
            chunked(&format!("1e\r\n{first}\r\n\r\n62\r\n{second}\r\n0\r\n\r\n")),
            BAD,
        ),
        case(
            "no last chunk",
            "llhttp transfer-encoding.md: Missing last-chunk",
            chunked(&format!("80\r\n{BODY}\r\n\r\n")),
            BAD,
        ),
        case(
            "a last chunk that ends in LF",
            "RFC 9112 7.1",
            chunked(&format!("80\r\n{BODY}\r\n0\n\r\n")),
            BAD,
        ),
        case("an end of one LF", "RFC 9112 7.1", chunked(&format!("80\r\n{BODY}\r\n0\r\n\n")), BAD),
        case(
            "an end of CR and something",
            "HTTP Garden: server bug 30",
            chunked(&format!("80\r\n{BODY}\r\n0\r\n\rX")),
            BAD,
        ),
        case("two last chunks", "RFC 9112 7.1", size("80") + "0\r\n\r\n", Refuse(&[200, 400])),
        // Trailer fields (RFC 9112 section 7.1.2).
        case(
            "trailer fields",
            "RFC 9112 7.1.2; llhttp transfer-encoding.md: Trailing headers",
            trailers("Vary: *\r\nContent-Type: text/plain\r\n"),
            OK,
        ),
        case("an empty trailer field", "RFC 9112 7.1.2", trailers("Empty:\r\n"), OK),
        case(
            "a trailer field that looks like a request",
            "HTTP Garden: server bug 39",
            trailers("X:POST /warm-start HTTP/1.1\r\n"),
            OK,
        ),
        case(
            "framing in a trailer field",
            "RFC 9110 6.5.1",
            trailers(
                "Content-Length: 5\r\nTransfer-Encoding: gzip\r\nHost: elsewhere\r\nConnection: close\r\n",
            ),
            OK,
        ),
        case("a trailer field without a colon", "RFC 9112 7.1.2", trailers("GET /connect HTTP/1.1\r\n"), BAD),
        case("a trailer field with a space before the colon", "RFC 9112 5.1", trailers("a : b\r\n"), BAD),
        case("a trailer field without a name", "RFC 9112 5", trailers(": b\r\n"), BAD),
        case("a folded trailer field", "RFC 9112 5.2", trailers("a: b\r\n c\r\n"), BAD),
        case("a trailer field that starts with a space", "RFC 9112 5.2", trailers(" a: b\r\n"), BAD),
        case("a trailer field with a NUL", "RFC 9110 5.5", trailers("a: \0\r\n"), BAD),
        case("a trailer field that ends in LF", "RFC 9112 2.2", trailers("a: b\n"), BAD),
        case("a trailer field with a CR", "RFC 9112 2.2", trailers("a: b\rc\r\n"), BAD),
        case(
            "a trailer field with a high byte in its name",
            "RFC 9110 5.6.2",
            trailers("\u{e9}: b\r\n"),
            BAD,
        ),
        case("trailer fields of 17 KiB", "RFC 6585 5", trailers(&"a: b\r\n".repeat(5_000)), Refuse(&[431])),
        // Incomplete bodies.
        case("no chunk yet", "RFC 9112 7.1", chunked(""), Wait),
        case("half a size", "RFC 9112 7.1", chunked("8"), Wait),
        case("half a chunk", "RFC 9112 8", chunked(&format!("80\r\n{first}")), Wait),
        case("all but the last chunk", "RFC 9112 8", chunked(&format!("80\r\n{BODY}\r\n")), Wait),
        case(
            "all but the end",
            "picohttpparser test.c: chunked-consume-trailer",
            chunked(&format!("80\r\n{BODY}\r\n0\r\n")),
            Wait,
        ),
        case("all but the last LF", "RFC 9112 8", chunked(&format!("80\r\n{BODY}\r\n0\r\n\r")), Wait),
    ]
}
