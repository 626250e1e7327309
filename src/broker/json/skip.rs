//! Values that do not matter: validated by a loop, not by recursion.

use super::containers::Containers;
use super::error::{Expected, JsonError};
use super::scan::Scanner;

impl Scanner<'_> {
    /// A value that is no string, of which [`Scanner::peek`] gave the first byte, validated.
    #[inline(always)]
    pub(in crate::broker) fn skip_other_value(
        &mut self,
        first: u8,
        outer: &mut Vec<u64>,
    ) -> Result<(), JsonError> {
        match first {
            b'{' | b'[' => self.skip_container(outer),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.skip_literal(),
        }
    }

    /// Any value, validated.
    #[inline(always)]
    pub(in crate::broker) fn skip_value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            b'"' => self.string().map(drop),
            first => self.skip_other_value(first, &mut Vec::new()),
        }
    }

    /// The same, for where that is rare: kept apart.
    #[inline(always)]
    pub(in crate::broker) fn skip_rare_value(&mut self) -> Result<(), JsonError> {
        *self = Scanner::new(behind_value(self.rest())?);
        Ok(())
    }

    /// An object or array, which is next, validated. What is open is kept track of with a bit each;
    /// `outer` is for [`Containers`].
    #[inline(always)]
    fn skip_container(&mut self, outer: &mut Vec<u64>) -> Result<(), JsonError> {
        let mut open = Containers::new(outer);
        let mut is_at_name = false;
        'value: loop {
            'behind: {
                // In front of a value, or of a member's name.
                if !is_at_name {
                    match self.peek() {
                        b'"' => {
                            if !self.skip_joined_string(b',')? {
                                break 'behind;
                            }
                            if !open.innermost_is_object() {
                                continue 'value;
                            }
                        }
                        b'{' => {
                            self.advance(1);
                            open.push(true);
                            if !self.has_members()? {
                                break 'behind;
                            }
                        }
                        b'[' => {
                            self.advance(1);
                            open.push(false);
                            match self.next_is(b']') {
                                true => break 'behind,
                                false => continue 'value,
                            }
                        }
                        b'-' | b'0'..=b'9' => {
                            self.number()?;
                            break 'behind;
                        }
                        _ => {
                            self.skip_literal()?;
                            break 'behind;
                        }
                    }
                }
                // In front of a name, as long as the values are strings.
                loop {
                    if !self.skip_joined_string(b':')? {
                        self.expect(b':', Expected::Colon)?;
                        is_at_name = false;
                        continue 'value;
                    }
                    if !self.skip_joined_string(b',')? {
                        break 'behind;
                    }
                }
            }
            // Behind a value, or in front of the end of an empty container: up to what comes next.
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

    /// A literal; anything else was found not to be next.
    #[inline(always)]
    fn skip_literal(&mut self) -> Result<(), JsonError> {
        let rest = self.rest();
        if rest.starts_with(b"true") || rest.starts_with(b"null") {
            self.advance(4);
        } else if rest.starts_with(b"false") {
            self.advance(5);
        } else {
            return Err(no_literal(rest));
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn behind_value(text: &[u8]) -> Result<&[u8], JsonError> {
    let mut scan = Scanner::new(text);
    scan.skip_value()?;
    Ok(scan.rest())
}

/// Where it stops being one.
#[cold]
#[inline(never)]
fn no_literal(mut rest: &[u8]) -> JsonError {
    let (literal, name): (&[u8], _) = match rest.first() {
        Some(b't') => (b"true", Expected::True),
        Some(b'f') => (b"false", Expected::False),
        Some(b'n') => (b"null", Expected::Null),
        _ => (b"", Expected::Value),
    };
    for byte in literal {
        match rest {
            [first, behind @ ..] if first == byte => rest = behind,
            _ => break,
        }
    }
    JsonError::expected(name, rest.len())
}
