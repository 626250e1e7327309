//! The header fields that decide how a message is framed and whether its connection persists.

use super::application::Application;
use super::framing::{Framing, Version};
use super::rejection::Rejection;
use super::target;

/// The head's fields, collected in one pass over them.
#[derive(Default)]
pub(super) struct Fields<'b, A> {
    pub(super) application: A,
    host: Option<&'b [u8]>,
    content_length: Option<u64>,
    coding: Coding,
    expects_continue: bool,
    says_close: bool,
    says_keep_alive: bool,
}

/// The transfer codings seen so far, over all fields and list members.
#[derive(Default)]
struct Coding {
    present: bool,
    chunked: bool,
    unknown: bool,
    malformed: bool,
}

impl<'b, A: Application<'b>> Fields<'b, A> {
    /// Takes one field, whose value has no white space around it.
    #[inline]
    pub(super) fn take(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Rejection> {
        let is = |lower: &str| is_field(name, lower);
        match name.len() {
            4 if is("host") => self.host(value),
            6 if is("expect") => self.expect(value),
            10 if is("connection") => {
                self.connection(value);
                Ok(())
            }
            14 if is("content-length") => self.content_length(value),
            17 if is("transfer-encoding") => {
                self.coding.take(value);
                Ok(())
            }
            _ => {
                self.application.take_field(name, value);
                Ok(())
            }
        }
    }

    /// RFC 9112 section 3.2: exactly one, and well-formed.
    fn host(&mut self, value: &'b [u8]) -> Result<(), Rejection> {
        if self.host.is_some() {
            return Err(Rejection::bad("Host occurs more than once"));
        }
        if !target::is_authority(value) {
            return Err(Rejection::bad("Host is malformed"));
        }
        self.host = Some(value);
        Ok(())
    }

    /// RFC 9110 section 10.1.1.
    fn expect(&mut self, value: &[u8]) -> Result<(), Rejection> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Rejection::new(417, "Expect may only be 100-continue"));
        }
        self.expects_continue = true;
        Ok(())
    }

    /// RFC 9110 section 7.6.1: a list of options, which may be spread over any number of fields.
    #[inline]
    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 6.3: `1*DIGIT`, once. A repeated field is refused even if both values agree.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Rejection> {
        if self.content_length.is_some() {
            return Err(Rejection::bad("Content-Length occurs more than once"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Rejection::bad("Content-Length must be one number"));
        }
        let length = value
            .iter()
            .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        if length.is_none() {
            return Err(Rejection::bad("Content-Length is out of range"));
        }
        self.content_length = length;
        Ok(())
    }

    /// RFC 9112 section 3.2; the absolute-form's authority must equal Host, ignoring case.
    #[inline]
    pub(super) fn check_host(&self, version: Version, authority: Option<&str>) -> Result<(), Rejection> {
        match (self.host, authority) {
            (None, _) if version == Version::Http11 => Err(Rejection::bad("Host is missing")),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority.as_bytes()) => {
                Err(Rejection::bad("Host differs from the request target's host"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the connection stays open after the response (RFC 9112 section 9.3).
    #[inline]
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.says_close && (version == Version::Http11 || self.says_keep_alive)
    }

    /// How the body is framed (RFC 9112 section 6.3). Anything that two readers might interpret
    /// differently is refused.
    #[inline]
    pub(super) fn framing(&self, version: Version) -> Result<Framing, Rejection> {
        if self.coding.present {
            return self.coding.framing(version, self.content_length.is_some());
        }
        Ok(match self.content_length {
            Some(length) => Framing::Length(length),
            None => Framing::None,
        })
    }

    /// Whether the client waits for a 100 (Continue) before it sends the body that `framing` announces.
    /// HTTP/1.0 clients do not (RFC 9110 section 10.1.1).
    #[inline]
    pub(super) fn expect_continue(&self, version: Version, framing: Framing) -> bool {
        self.expects_continue
            && version == Version::Http11
            && !matches!(framing, Framing::None | Framing::Length(0))
    }
}

impl Coding {
    /// RFC 9112 section 6.1: `chunked` is the last coding, and nothing is chunked twice.
    #[cold]
    fn take(&mut self, value: &[u8]) {
        self.present = true;
        for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            self.malformed |= self.chunked;
            let name_len = coding.iter().position(|b| b";= \t".contains(b));
            match coding.split_at(name_len.unwrap_or(coding.len())) {
                ([], _) => self.malformed = true,
                (name, rest) if name.eq_ignore_ascii_case(b"chunked") => {
                    self.chunked = true;
                    self.malformed |= !rest.is_empty();
                }
                _ => self.unknown = true,
            }
        }
    }

    #[cold]
    fn framing(&self, version: Version, has_length: bool) -> Result<Framing, Rejection> {
        if version == Version::Http10 {
            return Err(Rejection::bad("HTTP/1.0 has no Transfer-Encoding"));
        }
        if has_length {
            return Err(Rejection::bad("Transfer-Encoding and Content-Length exclude each other"));
        }
        if self.malformed {
            return Err(Rejection::bad("Transfer-Encoding must be chunked, once and last"));
        }
        if self.unknown {
            return Err(Rejection::new(501, "only the Transfer-Encoding chunked is supported"));
        }
        Ok(Framing::Chunked)
    }
}

/// Whether `name` equals the lower-case name `lower`, ignoring case (RFC 9110 section 5.1). Two quick
/// comparisons come first: most clients write lower case, and most other names begin with another letter.
#[inline(always)]
pub(crate) fn is_field(name: &[u8], lower: &str) -> bool {
    let lower = lower.as_bytes();
    let first = |text: &[u8]| text.first().map(u8::to_ascii_lowercase);
    name == lower || (first(name) == first(lower) && name.eq_ignore_ascii_case(lower))
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), without white space around them.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}
