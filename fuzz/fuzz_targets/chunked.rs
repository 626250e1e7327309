//! Checks that the core decodes a chunked body in fragments as in one piece, and as a naive line reader does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_fuzz::broker::http::ChunkedDecoder;
use pilotlight_fuzz::bytes::pieces;

const OVERHEAD_BYTES_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 1_000;

/// The data and how many bytes were used; `None`: more is needed; `Err`: a status.
type Decoded = Result<Option<(Vec<u8>, usize)>, u16>;

fuzz_target!(|data: &[u8]| {
    let Some((seed, body)) = data.split_first_chunk() else { return };
    let whole = decode(body, std::iter::repeat(usize::MAX));
    assert_eq!(decode(body, pieces(u64::from_le_bytes(*seed))), whole);
    match (whole, naive(body)) {
        (Ok(decoded), naive) => assert_eq!(naive, Ok(decoded)),
        // A fault may be found before its line is complete.
        (Err(_), Ok(Some(_))) => panic!("refused a good body"),
        (Err(status), _) => assert!(matches!(status, 400 | 413 | 431)),
    }
});

fn decode(body: &[u8], mut pieces: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = ChunkedDecoder::new(OVERHEAD_BYTES_MAX);
    let mut out = Vec::new();
    let mut used = 0;
    while used < body.len() {
        let len = pieces.next().unwrap_or(usize::MAX).min(body.len() - used);
        let (taken, done) = decoder
            .advance(&body[used..used + len], &mut out, BODY_BYTES_MAX)
            .map_err(|rejection| rejection.status)?;
        used += taken;
        if done {
            return Ok(Some((out, used)));
        }
        assert_eq!(taken, len);
    }
    assert!(out.len() <= BODY_BYTES_MAX.min(body.len()));
    Ok(None)
}

/// RFC 9112 section 7.1, line by line. Examines complete lines only.
fn naive(body: &[u8]) -> Decoded {
    let (mut out, mut at, mut overhead) = (Vec::new(), 0, 0);
    loop {
        let Some(line) = line(body, at) else { return Ok(None) };
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if !(1..=16).contains(&digits) {
            return Err(400);
        }
        let size = u64::from_str_radix(std::str::from_utf8(&line[..digits]).unwrap(), 16).unwrap();
        if out.len() as u64 + size.min(1 << 32) > BODY_BYTES_MAX as u64 {
            return Err(413);
        }
        // The bytes after the size, including the CR that ends its line.
        overhead += line.len() - digits;
        if !extensions(&line[digits..]) {
            return Err(400);
        }
        if overhead > OVERHEAD_BYTES_MAX {
            return Err(413);
        }
        if size == 0 {
            break;
        }
        let data = &body[at..body.len().min(at + size as usize)];
        out.extend_from_slice(data);
        at += data.len();
        match &body[at..] {
            [b'\r', b'\n', ..] if data.len() as u64 == size => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(400),
        }
    }
    loop {
        let Some(line) = line(body, at) else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((out, at)));
        }
        overhead += line.len();
        let name_len = line.iter().take_while(|byte| is_token(**byte)).count();
        if name_len == 0 || line.get(name_len) != Some(&b':') || !line[name_len + 1..].iter().all(is_text) {
            return Err(400);
        }
        if overhead > OVERHEAD_BYTES_MAX {
            return Err(431);
        }
    }
}

/// The line at `at` without its end; `None` if it is incomplete.
fn line(body: &[u8], at: usize) -> Option<&[u8]> {
    let rest = &body[at..];
    let len = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&rest[..len])
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(behind) = blank(rest).strip_prefix(b";") else { return false };
        let Some(behind) = token(blank(behind)) else { return false };
        rest = behind;
        if let Some(value) = blank(behind).strip_prefix(b"=") {
            let value = blank(value);
            let behind = match value.strip_prefix(b"\"") {
                Some(quoted) => unquoted(quoted),
                None => token(value),
            };
            let Some(behind) = behind else { return false };
            rest = behind;
        }
    }
    true
}

fn blank(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()..]
}

fn token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().take_while(|byte| is_token(**byte)).count();
    (len > 0).then(|| &bytes[len..])
}

fn unquoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(escaped) => rest,
            [plain, rest @ ..] if *plain != b'\\' && is_text(plain) => rest,
            _ => return None,
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
