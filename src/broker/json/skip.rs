//! Skips values: validates them with a loop, without recursion.

use super::containers::Containers;
use super::error::{Expected, JsonError};
use super::scan::Scanner;

impl Scanner<'_> {
    /// Skips a value other than a string, whose first byte is `first`. `outer`: see [`Containers`].
    #[inline(always)]
    pub(crate) fn skip_other_value(&mut self, first: u8, outer: &mut Vec<u64>) -> Result<(), JsonError> {
        match first {
            b'{' | b'[' => self.skip_container(outer),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.skip_literal(),
        }
    }

    #[inline(always)]
    pub(crate) fn skip_value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            b'"' => self.string().map(drop),
            first => self.skip_other_value(first, &mut Vec::new()),
        }
    }

    /// Like [`Scanner::skip_value`], not inlined, for rare cases.
    #[inline(always)]
    pub(crate) fn skip_rare_value(&mut self) -> Result<(), JsonError> {
        *self = Scanner::new(after_value(self.rest())?);
        Ok(())
    }

    /// Skips an object or array, which is next.
    #[inline(always)]
    fn skip_container(&mut self, outer: &mut Vec<u64>) -> Result<(), JsonError> {
        let mut open = Containers::new(outer);
        let mut is_at_name = false;
        'value: loop {
            'after_value: {
                // Before a value or a member's name.
                if !is_at_name {
                    match self.peek() {
                        b'"' => {
                            if !self.skip_joined_string(b',')? {
                                break 'after_value;
                            }
                            if !open.innermost_is_object() {
                                continue 'value;
                            }
                        }
                        b'{' => {
                            self.advance(1);
                            open.push(true);
                            if !self.has_members()? {
                                break 'after_value;
                            }
                        }
                        b'[' => {
                            self.advance(1);
                            open.push(false);
                            match self.next_is(b']') {
                                true => break 'after_value,
                                false => continue 'value,
                            }
                        }
                        b'-' | b'0'..=b'9' => {
                            self.number()?;
                            break 'after_value;
                        }
                        _ => {
                            self.skip_literal()?;
                            break 'after_value;
                        }
                    }
                }
                // Before a name, as long as the values are strings.
                loop {
                    if !self.skip_joined_string(b':')? {
                        self.expect(b':', Expected::Colon)?;
                        is_at_name = false;
                        continue 'value;
                    }
                    if !self.skip_joined_string(b',')? {
                        break 'after_value;
                    }
                }
            }
            // After a value, or before the end of an empty container: proceed to the next token.
            while !self.skip_if(b',') {
                match open.innermost_is_object() {
                    true => self.expect(b'}', Expected::NextMember)?,
                    false => self.expect(b']', Expected::NextElement)?,
                }
                open.pop();
                if open.is_empty() {
                    return Ok(());
                }
            }
            is_at_name = open.innermost_is_object();
            if is_at_name {
                self.expect_name()?;
            }
        }
    }

    /// Skips a literal. The caller has excluded all other values.
    #[inline(always)]
    fn skip_literal(&mut self) -> Result<(), JsonError> {
        let rest = self.rest();
        if rest.starts_with(b"true") || rest.starts_with(b"null") {
            self.advance(4);
        } else if rest.starts_with(b"false") {
            self.advance(5);
        } else {
            return Err(not_a_literal(rest));
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn after_value(text: &[u8]) -> Result<&[u8], JsonError> {
    let mut scan = Scanner::new(text);
    scan.skip_value()?;
    Ok(scan.rest())
}

/// The error at the first byte that differs from a literal.
#[cold]
#[inline(never)]
fn not_a_literal(mut rest: &[u8]) -> JsonError {
    let (literal, name): (&[u8], _) = match rest.first() {
        Some(b't') => (b"true", Expected::True),
        Some(b'f') => (b"false", Expected::False),
        Some(b'n') => (b"null", Expected::Null),
        _ => (b"", Expected::Value),
    };
    for byte in literal {
        match rest {
            [first, after @ ..] if first == byte => rest = after,
            _ => break,
        }
    }
    JsonError::expected(name, rest.len())
}
