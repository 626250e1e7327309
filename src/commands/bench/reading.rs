//! Reads whole answers from a non-blocking connection. `benches/compare` compiles this file too.

use std::io::{self, Read};

const HEADERS_MAX: usize = 32;

/// The result of a read.
pub enum Reading {
    /// No whole answer yet.
    Partial,
    /// One whole answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The server closes the connection after this answer.
        close: bool,
        /// The whole body: the answer must have a Content-Length.
        body: Vec<u8>,
    },
    /// The connection has ended, or sent something that is not an HTTP answer.
    Ended,
}

/// Reads once. `partial` keeps the bytes of an incomplete answer for the next call.
pub fn read(mut stream: impl Read, partial: &mut Vec<u8>, scratch: &mut [u8]) -> Reading {
    let bytes = match stream.read(scratch) {
        Ok(0) => return Reading::Ended,
        Ok(read) => &scratch[..read],
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
            return Reading::Partial;
        }
        Err(_) => return Reading::Ended,
    };
    if partial.is_empty() {
        let reading = parse(bytes);
        if matches!(reading, Reading::Partial) {
            partial.extend_from_slice(bytes);
        }
        return reading;
    }
    partial.extend_from_slice(bytes);
    let reading = parse(partial);
    if !matches!(reading, Reading::Partial) {
        *partial = Vec::new();
    }
    reading
}

fn parse(bytes: &[u8]) -> Reading {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Reading::Partial,
        Err(_) => return Reading::Ended,
    };
    let header =
        |name: &str| response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let length =
        header("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    let Some(length) = length else { return Reading::Ended };
    let Some(body) = bytes.get(head_bytes..head_bytes + length) else { return Reading::Partial };
    Reading::Answer {
        status: response.code.unwrap_or(0),
        close: header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")),
        body: body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_answers_and_ends_are_recognized() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue";
        let mut scratch = [0; 256];
        for cut in 1..answer.len() {
            let mut partial = Vec::new();
            assert!(matches!(read(&answer[..cut], &mut partial, &mut scratch), Reading::Partial), "{cut}");
            match read(&answer[cut..], &mut partial, &mut scratch) {
                Reading::Answer { status: 200, close: true, body } => assert_eq!(body, b"true"),
                _ => panic!("{cut}"),
            }
            assert!(partial.is_empty());
        }
        for end in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(matches!(read(end, &mut Vec::new(), &mut scratch), Reading::Ended));
        }
    }
}
