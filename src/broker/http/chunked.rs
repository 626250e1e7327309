//! Chunked bodies (RFC 9112 section 7.1), decoded as they arrive.

use super::rejection::Rejection;

/// Decodes a chunked body. Input may stop and resume at any byte.
///
/// Strict: chunk sizes are 1 to 16 hex digits, and every line ends in CRLF. Extensions and trailer fields
/// must follow their grammar; otherwise two readers might see different line ends in them. They are limited
/// and ignored.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Digits of the chunk size so far.
    digits: u8,
    /// The chunk size so far, then the bytes of the chunk that are still to come.
    remaining: u64,
    /// Body bytes in the chunks announced so far.
    announced: u64,
    /// Bytes of extensions and trailer fields so far.
    overhead: usize,
    overhead_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// White space before a `;`.
    ExtensionGap,
    /// After a `;`.
    ExtensionStart,
    ExtensionName,
    /// White space after a name.
    ExtensionNameEnd,
    /// After a `=`.
    ExtensionValueStart,
    ExtensionValue,
    ExtensionQuoted,
    /// After a `\` in a quoted value.
    ExtensionEscape,
    /// After a quoted value.
    ExtensionQuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body, whose extensions and trailer fields together may be
    /// `overhead_bytes_max` bytes long.
    pub fn new(overhead_bytes_max: usize) -> Self {
        ChunkedDecoder {
            state: State::Size,
            digits: 0,
            remaining: 0,
            announced: 0,
            overhead: 0,
            overhead_bytes_max,
        }
    }

    /// Decodes what it can from `input` and appends the data to `out`.
    ///
    /// Returns how many bytes of `input` were consumed and whether the body is complete. Until then it consumes
    /// all of `input`; it leaves what follows a complete body. `out` grows with the data that has arrived, never
    /// with what a chunk size announces.
    ///
    /// # Errors
    /// - 400: anything malformed.
    /// - 413: extensions exceed their limit, or the announced data exceeds `body_bytes_max` bytes in total.
    ///   The error comes as soon as the data is announced.
    /// - 431: trailer fields exceed that limit.
    ///
    /// After an error the decoder must not be used again.
    pub fn advance(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        body_bytes_max: usize,
    ) -> Result<(usize, bool), Rejection> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let rest = &input[at..];
                let taken = rest.len().min(self.remaining.try_into().unwrap_or(usize::MAX));
                out.extend_from_slice(&rest[..taken]);
                at += taken;
                self.remaining -= taken as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.step(input[at], body_bytes_max)?;
                at += 1;
            }
        }
        Ok((at, self.state == State::Done))
    }

    /// Takes one byte that is not data.
    fn step(&mut self, byte: u8, body_bytes_max: usize) -> Result<(), Rejection> {
        use State::*;
        self.state = match (self.state, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(byte)?;
                Size
            }
            (Size, b'\r' | b';' | b' ' | b'\t') => {
                self.announce(body_bytes_max)?;
                match byte {
                    b'\r' => SizeLf,
                    b';' => ExtensionStart,
                    _ => ExtensionGap,
                }
            }
            (Size, _) => return Err(Rejection::bad("a chunk size must be hexadecimal")),

            (SizeLf, b'\n') if self.remaining > 0 => Data,
            (SizeLf, b'\n') => TrailerStart,
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                self.digits = 0;
                Size
            }
            (DataCr | DataLf, _) => {
                return Err(Rejection::bad("a chunk is longer than its size"));
            }

            (TrailerStart, b'\r') => EndLf,
            (TrailerStart | TrailerName, byte) if is_token(byte) => self.trailer(TrailerName)?,
            (TrailerName, b':') => self.trailer(TrailerValue)?,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, byte) if is_text(byte) => self.trailer(TrailerValue)?,
            (TrailerLf, b'\n') => TrailerStart,
            (EndLf, b'\n') => Done,
            (TrailerStart | TrailerName | TrailerValue, _) => {
                return Err(Rejection::bad("a trailer field is malformed"));
            }

            (SizeLf | TrailerLf | EndLf, _) => {
                return Err(Rejection::bad("the chunked body contains a bare CR"));
            }
            (state, byte) => self.extension(state, byte)?,
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<(), Rejection> {
        if self.digits == 16 {
            return Err(Rejection::bad("a chunk size has more than 16 digits"));
        }
        if self.digits == 0 {
            self.remaining = 0;
        }
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.remaining = self.remaining << 4 | u64::from(value);
        self.digits += 1;
        Ok(())
    }

    /// A chunk's size is known.
    fn announce(&mut self, body_bytes_max: usize) -> Result<(), Rejection> {
        if self.digits == 0 {
            return Err(Rejection::bad("a chunk size is missing"));
        }
        // `announced` was within the limit before, so a saturated sum is above it.
        self.announced = self.announced.saturating_add(self.remaining);
        if self.announced > body_bytes_max as u64 {
            return Err(Rejection::new(413, "the body is too long"));
        }
        Ok(())
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, RFC 9112 section 7.1.1.
    fn extension(&mut self, state: State, byte: u8) -> Result<State, Rejection> {
        use State::*;
        self.overhead += 1;
        if self.overhead > self.overhead_bytes_max {
            return Err(Rejection::new(413, "the chunk extensions are too long"));
        }
        let white = matches!(byte, b' ' | b'\t');
        let token = is_token(byte);
        Ok(match (state, byte) {
            (ExtensionStart | ExtensionName, _) if token => ExtensionName,
            (ExtensionValueStart | ExtensionValue, _) if token => ExtensionValue,
            (ExtensionValueStart, b'"') => ExtensionQuoted,
            (ExtensionQuoted, b'"') => ExtensionQuotedEnd,
            (ExtensionQuoted, b'\\') => ExtensionEscape,
            (ExtensionQuoted | ExtensionEscape, _) if is_text(byte) => ExtensionQuoted,
            (ExtensionName | ExtensionNameEnd, b'=') => ExtensionValueStart,
            (ExtensionGap | ExtensionName | ExtensionNameEnd | ExtensionValue | ExtensionQuotedEnd, b';') => {
                ExtensionStart
            }
            (ExtensionName | ExtensionValue | ExtensionQuotedEnd, b'\r') => SizeLf,
            (ExtensionGap | ExtensionStart | ExtensionNameEnd | ExtensionValueStart, _) if white => state,
            (ExtensionName, _) if white => ExtensionNameEnd,
            (ExtensionValue | ExtensionQuotedEnd, _) if white => ExtensionGap,
            _ => return Err(Rejection::bad("a chunk extension is malformed")),
        })
    }

    fn trailer(&mut self, next: State) -> Result<State, Rejection> {
        self.overhead += 1;
        if self.overhead > self.overhead_bytes_max {
            return Err(Rejection::new(431, "the trailer fields are too long"));
        }
        Ok(next)
    }
}

/// `tchar`, RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The bytes allowed in a field's value and in a quoted string: HTAB, SP, VCHAR, obs-text.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OVERHEAD_MAX: usize = 64;
    const BODY_MAX: usize = 4_096;

    /// Decodes `input` in pieces of these lengths, repeated. Returns the data and how much was consumed, `None` if
    /// more is needed, or the status.
    fn decode(input: &[u8], pieces: &[usize]) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let mut decoder = ChunkedDecoder::new(OVERHEAD_MAX);
        let mut out = b"before".to_vec();
        let mut at = 0;
        for len in pieces.iter().cycle() {
            let piece = &input[at..(at + len).min(input.len())];
            let (consumed, done) =
                decoder.advance(piece, &mut out, BODY_MAX).map_err(|rejection| rejection.status)?;
            at += consumed;
            if done {
                assert_eq!(decoder.advance(b"more", &mut out, 0), Ok((0, true)));
                return Ok(Some((out.split_off(6), at)));
            }
            assert_eq!(consumed, piece.len());
            if at == input.len() {
                return Ok(None);
            }
        }
        unreachable!("the pieces repeat forever")
    }

    fn status(input: &str) -> Option<u16> {
        let whole = decode(input.as_bytes(), &[usize::MAX / 2]);
        assert_eq!(whole, decode(input.as_bytes(), &[1]), "{input:?}");
        whole.err()
    }

    #[test]
    fn decodes_bodies() {
        for (input, data) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
            (
                "00000000000000aA\r\n0123456789\r\n01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567\r\n0000\r\n\r\n",
                "0123456789\r\n01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
            ),
            ("1;a\r\nx\r\n0;b=1\r\n\r\n", "x"),
            ("1 ; a = b ;c\t=\t\"d;\\\"\\\\\t\";e\r\nx\r\n0\r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nDigest: a b\r\nEmpty:\r\nOdd:\té\r\n\r\n", "x"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ] {
            for pieces in [&[usize::MAX / 2][..], &[1], &[2], &[3, 1]] {
                let more = format!("{input}GET / HTTP/1.1\r\n");
                let expected = Some((data.as_bytes().to_vec(), input.len()));
                assert_eq!(decode(more.as_bytes(), pieces), Ok(expected), "{input:?}");
                let short = &input.as_bytes()[..input.len() - 1];
                assert_eq!(decode(short, pieces), Ok(None), "{input:?}");
            }
        }
    }

    #[test]
    fn refuses_malformed_bodies() {
        for input in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "0x1\r\n",
            "1\n",
            "1\r1",
            "1\rx\r\n",
            "1 \r\n",
            "1 2\r\n",
            "1,\r\n",
            "1\0\r\n",
            "g\r\n",
            ";a\r\n",
            "1é\r\n",
            "10000000000000000\r\n",
            "00000000000000001\r\n",
            "ffffffffffffffff1\r\n",
            // A chunk longer or shorter than its size.
            "1\r\nxy\r\n",
            "1\r\nx\n",
            "1\r\nx\rx",
            "2\r\nx\r\n0\r\n\r\n",
            "1\r\n\r\n0\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n\n",
            "0\n\n",
            "0\r\n\rx",
            // Extensions: nothing that another reader might interpret as a line end.
            "1;\r\n",
            "1;;a\r\n",
            "1;a;\r\n",
            "1;=b\r\n",
            "1;a=\r\n",
            "1;a=;\r\n",
            "1;a b\r\n",
            "1;a=b c\r\n",
            "1;a\n",
            "1;a=b\n",
            "1;a=\"b\r\n\"\r\n",
            "1;a=\"b\n\"\r\n",
            "1;a\rb\r\n",
            "1;a=\"\\\r\n\"",
            "1;a=\"b\"c\r\n",
            "1;a=\"\0\"\r\n",
            "1;a=\"\x7f\"\r\n",
            "1;a \r\n",
            "1; \r\n",
            "1;a=b \r\n",
            "1;\"a\"\r\n",
            "1;a\0\r\n",
            "1;é\r\n",
            // Trailer fields.
            "0\r\na\r\n",
            "0\r\na \r\n",
            "0\r\na : b\r\n",
            "0\r\n: b\r\n",
            "0\r\n a: b\r\n",
            "0\r\na: b\n",
            "0\r\na: b\rc",
            "0\r\na: b\r\n c\r\n",
            "0\r\na: \0\r\n",
            "0\r\na: \x1b\r\n",
            "0\r\na: b\r\n\n",
            "0\r\né: b\r\n",
            "0\r\na: b\r\n\rx",
        ] {
            assert_eq!(status(input), Some(400), "{input:?}");
        }
    }

    #[test]
    fn enforces_the_limits() {
        // Refused as soon as it is announced, in one chunk or in several, without an allocation.
        assert_eq!(status("1000\r\n"), None);
        assert_eq!(status("1001\r\n"), Some(413));
        assert_eq!(status("ffffffffffffffff\r\n"), Some(413));
        let half = format!("800\r\n{}\r\n", "x".repeat(0x800));
        assert_eq!(status(&format!("{half}{half}0\r\n\r\n")), None);
        assert_eq!(status(&format!("{half}{half}1\r\n")), Some(413));
        assert_eq!(status("1\r\nx\r\nffffffffffffffff\r\n"), Some(413));
        // After the `;` or before the trailer's end: `a`, 62 more and the CR.
        let bs = |count| "b".repeat(count);
        assert_eq!(status(&format!("0;a{}\r\n\r\n", bs(62))), None);
        assert_eq!(status(&format!("0;a{}\r\n\r\n", bs(63))), Some(413));
        assert_eq!(status(&"1;abcdefgh\r\nx\r\n".repeat(7)), None);
        assert_eq!(status(&"1;abcdefgh\r\nx\r\n".repeat(8)), Some(413));
        assert_eq!(status(&format!("0\r\na:{}\r\n\r\n", bs(62))), None);
        assert_eq!(status(&format!("0\r\na:{}\r\n\r\n", bs(63))), Some(431));
        assert_eq!(status(&format!("0\r\n{}", "a:b\r\n".repeat(22))), Some(431));
    }

    /// Reads a complete body with string functions; `None` if it is malformed or incomplete.
    fn naive(input: &[u8]) -> Option<(Vec<u8>, usize)> {
        let line = |at: usize| {
            let len = input[at..].windows(2).position(|pair| pair == b"\r\n")?;
            let line = &input[at..at + len];
            let clean = !line.iter().any(|b| *b == b'\r' || *b == b'\n');
            clean.then_some((line, at + len + 2))
        };
        let is_tokens = |text: &[u8]| !text.is_empty() && text.iter().all(|b| is_token(*b));
        let mut data = Vec::new();
        let mut at = 0;
        loop {
            let (size, next) = line(at)?;
            let digits = std::str::from_utf8(size.split(|b| *b == b';').next()?).ok()?;
            // Extensions here are tokens, without values or white space.
            let mut extensions = size.split(|b| *b == b';').skip(1);
            if digits.starts_with('+') || digits.len() > 16 || !extensions.all(is_tokens) {
                return None;
            }
            let size = usize::from_str_radix(digits, 16).ok()?;
            at = next;
            if size == 0 {
                break;
            }
            data.extend_from_slice(input.get(at..at.checked_add(size)?)?);
            at += size;
            at = input[at..].starts_with(b"\r\n").then_some(at + 2)?;
        }
        loop {
            let (field, next) = line(at)?;
            at = next;
            if field.is_empty() {
                return Some((data, at));
            }
            let colon = field.iter().position(|b| *b == b':')?;
            let well = is_tokens(&field[..colon]) && field.iter().all(|b| is_text(*b));
            well.then_some(())?;
        }
    }

    /// Bodies, some of them damaged.
    fn bodies_maybe_damaged() -> impl Strategy<Value = Vec<u8>> {
        let chunk =
            (prop::collection::vec(any::<u8>(), 1..40), any::<bool>()).prop_map(|(data, extended)| {
                let extension = if extended { ";a;bc" } else { "" };
                let mut chunk = format!("{:x}{extension}\r\n", data.len()).into_bytes();
                chunk.extend_from_slice(&data);
                chunk.extend_from_slice(b"\r\n");
                chunk
            });
        let end = prop::sample::select(vec!["0\r\n\r\n", "00;a\r\nb: c\r\n\r\n", "0\r\na:\r\n\r\n", ""]);
        let damage = prop::option::weighted(
            0.6,
            (any::<u16>(), prop::sample::select(b"\r\n0;:,a\0\"".to_vec()), any::<bool>()),
        );
        let chunks = prop::collection::vec(chunk, 0..4);
        (chunks, end, damage).prop_map(|(chunks, end, damage)| {
            let mut body = chunks.concat();
            body.extend_from_slice(end.as_bytes());
            if let Some((place, byte, insert)) = damage
                && !body.is_empty()
            {
                let at = body.len() * usize::from(place) / 65_536;
                body.splice(at..at + usize::from(!insert), [byte]);
            }
            body
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_reader_however_fragmented(
            input in bodies_maybe_damaged(),
            pieces in prop::collection::vec(1usize..30, 1..10),
        ) {
            let whole = decode(&input, &[usize::MAX / 2]);
            prop_assert_eq!(&whole, &decode(&input, &pieces));
            prop_assert_eq!(whole.ok().flatten(), naive(&input));
        }

        #[test]
        fn never_panics(input in "[0-9a-f\r\n;:= \"x]{0,40}") {
            let _ = status(&input);
        }
    }
}
