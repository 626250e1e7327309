//! JSON's grammar (RFC 8259) over bytes: all bytes outside strings are ASCII, and a string ends at a quote.

use std::num::NonZero;

use super::block::{BLOCK, specials};
use super::error::{Expected, JsonError};
use super::number::number_len;
use super::text::{Text, skip_string};

/// A position in a text. Every method advances it beyond what it read.
///
/// The scanner stays in registers as long as nothing takes its address. So its methods are inlined, and
/// functions that are not inlined get slices. Errors contain the number of bytes left: see
/// [`JsonError::in_text`].
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'b> {
    /// The text from the start of the current block on.
    block: &'b [u8],
    /// The number of bytes of `block` that are read.
    at: usize,
    /// The unread special bytes of the block, as in [`specials`]: outside strings these are quotes, and control
    /// characters as white space. None if `at` is after the block.
    specials: u64,
}

/// Bytes compared together where a string ends, its quote first.
const AHEAD: usize = size_of::<u32>();

impl<'b> Scanner<'b> {
    #[inline(always)]
    pub(crate) fn new(text: &'b [u8]) -> Self {
        Scanner { block: text, at: 0, specials: specials(text) }
    }

    #[inline(always)]
    pub(super) fn rest(self) -> &'b [u8] {
        &self.block[self.at..]
    }

    /// The number of unread bytes.
    #[inline(always)]
    pub(crate) fn left(self) -> usize {
        self.block.len() - self.at
    }

    /// The next byte that is not white space, not read. 0 if there is none: JSON contains no NUL.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> u8 {
        match self.block.get(self.at) {
            Some(&byte) if byte > b' ' => byte,
            _ => self.peek_after_space(),
        }
    }

    #[inline(always)]
    fn peek_after_space(&mut self) -> u8 {
        self.at = after_space(self.block, self.at);
        self.specials &= u64::MAX.unbounded_shl(self.at.try_into().unwrap_or(u32::MAX));
        self.block.get(self.at).copied().unwrap_or(0)
    }

    /// Whether this byte is next. Does not read it.
    #[inline(always)]
    pub(super) fn next_is(&mut self, byte: u8) -> bool {
        // Skips white space only if there is some.
        self.block.get(self.at) == Some(&byte) || self.peek() == byte
    }

    /// Skips `count` bytes, none of which is a quote.
    #[inline(always)]
    pub(crate) fn advance(&mut self, count: usize) {
        self.at += count;
    }

    /// Skips the byte, which is not a quote, if it is next.
    #[inline(always)]
    pub(crate) fn skip_if(&mut self, byte: u8) -> bool {
        let is_next = self.next_is(byte);
        if is_next {
            self.advance(1);
        }
        is_next
    }

    /// Skips the byte, which is not a quote and must be next.
    #[inline(always)]
    pub(crate) fn expect(&mut self, byte: u8, what: Expected) -> Result<(), JsonError> {
        match self.skip_if(byte) {
            true => Ok(()),
            false => Err(self.expected(what)),
        }
    }

    /// A name must be next. Does not read it.
    #[inline(always)]
    pub(crate) fn expect_name(&mut self) -> Result<(), JsonError> {
        match self.next_is(b'"') {
            true => Ok(()),
            false => Err(self.expected(Expected::Name)),
        }
    }

    /// After an object's opening brace: whether there are members. Does not read the first name or the closing
    /// brace.
    #[inline(always)]
    pub(crate) fn has_members(&mut self) -> Result<bool, JsonError> {
        if self.next_is(b'"') {
            return Ok(true);
        }
        match self.next_is(b'}') {
            true => Ok(false),
            false => Err(self.expected(Expected::Name)),
        }
    }

    /// Only white space may follow.
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.peek();
        match self.left() {
            0 => Ok(()),
            _ => Err(self.expected(Expected::End)),
        }
    }

    /// Reads a member's name, which is next, and the colon after it. Also returns what [`Scanner::peek`] returns
    /// after that.
    #[inline(always)]
    pub(crate) fn name(&mut self) -> Result<(Text<'b>, u8), JsonError> {
        let (start, end) = self.enter_string();
        if let Some(window) = self.block.first_chunk() {
            let ahead = ahead(window, end);
            if ahead as u16 == u16::from_le_bytes(*b"\":") {
                let raw = &window[start..end];
                self.leave(end);
                self.advance(1);
                let next = (ahead >> 16) as u8;
                let next = if next > b' ' { next } else { self.peek_after_space() };
                return Ok((Text { raw, has_escapes: false }, next));
            }
        }
        let name = self.finish_string(start, end)?;
        self.expect(b':', Expected::Colon)?;
        Ok((name, self.peek()))
    }

    /// Reads a string, which is next.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text<'b>, JsonError> {
        let (start, end) = self.enter_string();
        self.finish_string(start, end)
    }

    /// Returns the start of the next string in the block, and the index of the first special byte after that
    /// start. The index is after the block if there is none. If that byte is a quote, the string ends there.
    #[inline(always)]
    fn enter_string(&mut self) -> (usize, usize) {
        self.pop_special();
        if let Some(specials) = NonZero::new(self.specials) {
            return (self.at + 1, specials.trailing_zeros() as usize);
        }
        // The next block starts with the string, so that the string is in one piece.
        self.block = &self.block[self.at + 1..];
        self.at = 0;
        self.specials = specials(self.block);
        (0, self.specials.trailing_zeros() as usize)
    }

    #[inline(always)]
    fn finish_string(&mut self, start: usize, end: usize) -> Result<Text<'b>, JsonError> {
        if self.block.get(end) == Some(&b'"') {
            let raw = &self.block[start..end];
            self.leave(end);
            return Ok(Text { raw, has_escapes: false });
        }
        let (text, after) = skip_string(&self.block[start..])?;
        *self = Scanner::new(after);
        Ok(text)
    }

    /// Skips a string, which is next. If `separator` and another string follow immediately, also skips `separator`
    /// and returns true: the other string is then next.
    #[inline(always)]
    pub(crate) fn skip_joined_string(&mut self, separator: u8) -> Result<bool, JsonError> {
        let end = self.enter_skipped_string();
        if let Some(window) = self.block.first_chunk()
            && ahead(window, end) << 8 == u32::from_le_bytes([0, b'"', separator, b'"'])
        {
            self.leave(end);
            self.advance(1);
            return Ok(true);
        }
        if self.block.get(end) == Some(&b'"') {
            self.leave(end);
        } else {
            let (_, after) = skip_string(&self.block[end..])?;
            *self = Scanner::new(after);
        }
        Ok(false)
    }

    /// Like `enter_string`, for a string whose start is not needed.
    #[inline(always)]
    fn enter_skipped_string(&mut self) -> usize {
        self.pop_special();
        if let Some(specials) = NonZero::new(self.specials) {
            return specials.trailing_zeros() as usize;
        }
        // The rest of this block is plain, but the string may start after it.
        let next_block = self.block.get(BLOCK.max(self.at + 1)..);
        self.block = next_block.unwrap_or_else(|| &self.block[self.at + 1..]);
        self.at = 0;
        self.specials = specials(self.block);
        self.specials.trailing_zeros() as usize
    }

    /// Moves after the quote at `end`, before which there are no special bytes.
    #[inline(always)]
    fn leave(&mut self, end: usize) {
        self.pop_special();
        self.at = end + 1;
    }

    #[inline(always)]
    fn pop_special(&mut self) {
        self.specials &= self.specials.wrapping_sub(1);
    }

    /// Reads a number, which is next.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<&'b [u8], JsonError> {
        let rest = self.rest();
        let (len, is_whole) = match number_len(rest) {
            Ok(len) => (len, true),
            Err(len) => (len, false),
        };
        let number = rest.get(..len).unwrap_or(rest);
        self.advance(number.len());
        match is_whole {
            true => Ok(number),
            false => Err(self.expected(Expected::Digit)),
        }
    }

    /// The error for a position where the grammar requires `expected`.
    #[inline(always)]
    pub(super) fn expected(self, expected: Expected) -> JsonError {
        JsonError::expected(expected, self.left())
    }
}

/// The bytes from `at` on, the first one lowest.
#[inline(always)]
fn ahead(window: &[u8; BLOCK + AHEAD], at: usize) -> u32 {
    window[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A separate function, because senders rarely write white space.
#[cold]
#[inline(never)]
fn after_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}
