//! Chunked bodies (RFC 9112 section 7.1), decoded as they arrive.

use super::Rejection;

/// Decodes a chunked body; may be stopped and resumed at any byte.
///
/// Strict: chunk sizes are 1 to 16 hex digits, extensions and trailer fields keep to their grammar
/// (else two readers might see different line ends in them), every line ends in CRLF. Extensions
/// and trailer fields are bounded and ignored.
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
    /// White space in front of a `;`.
    ExtensionGap,
    /// Behind a `;`.
    ExtensionStart,
    ExtensionName,
    /// White space behind a name.
    ExtensionNameEnd,
    /// Behind a `=`.
    ExtensionValueStart,
    ExtensionValue,
    ExtensionQuoted,
    /// Behind a `\` in a quoted value.
    ExtensionEscape,
    /// Behind a quoted value.
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
    /// `overhead_bytes_max` bytes long (the limit of a head is a good one).
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
    /// Returns how many bytes of `input` were consumed and whether the body is complete. Until then
    /// all of `input` is consumed; what follows a complete body is left. `out` grows with the data
    /// that has arrived, never with what a chunk size announces.
    ///
    /// # Errors
    /// 413 as soon as the announced data exceeds `body_bytes_max` bytes in all, or extensions their
    /// bound; 431 where trailer fields exceed it; 400 for anything malformed. After an error the
    /// decoder must not be used again.
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
                let taken = rest
                    .len()
                    .min(self.remaining.try_into().unwrap_or(usize::MAX));
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
                return Err(Rejection::bad("the chunked body holds a bare CR"));
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
        // Not above the limit before: no overflow within an addition that saturates.
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
            (
                ExtensionGap | ExtensionName | ExtensionNameEnd | ExtensionValue
                | ExtensionQuotedEnd,
                b';',
            ) => ExtensionStart,
            (ExtensionName | ExtensionValue | ExtensionQuotedEnd, b'\r') => SizeLf,
            (ExtensionGap | ExtensionStart | ExtensionNameEnd | ExtensionValueStart, _)
                if white =>
            {
                state
            }
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

/// What a field's value and a quoted string may hold: HTAB, SP, VCHAR, obs-text.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
