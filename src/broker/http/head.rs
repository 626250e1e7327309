//! One request head.

use super::application::Application;
use super::fields::Fields;
use super::framing::{Framing, Version};
use super::rejection::Rejection;
use super::response::Persistence;
use super::target::Target;

/// Header fields that one head may have; more are refused with 431.
pub const HEADER_FIELDS_MAX: usize = 64;

/// A request head, borrowed from the bytes received. `A` holds the fields of one application.
#[derive(Clone, Copy, Debug)]
pub struct Head<'b, A> {
    pub method: Method<'b>,
    /// The path without its query, or `*`. An absolute-form target is reduced to its path.
    /// Percent-encodings are not decoded: `/%63onnect` is not `/connect`.
    pub target: &'b str,
    pub version: Version,
    /// The connection stays open after the response (RFC 9112 section 9.3).
    pub keep_alive: bool,
    pub framing: Framing,
    /// The client waits for a 100 (Continue) before it sends its body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The fields that HTTP/1.1 itself does not interpret here.
    pub application: A,
}

/// A request's method (RFC 9110 section 9). Methods are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'b> {
    Get,
    Head,
    Post,
    Options,
    Other(&'b str),
}

impl<'b, A: Application<'b>> Head<'b, A> {
    /// Combines the parts of a head.
    ///
    /// # Errors
    /// 400 or 501 where the parts contradict each other.
    #[inline(always)]
    pub(super) fn new(
        method: Method<'b>,
        version: Version,
        target: Target<'b>,
        fields: Fields<'b, A>,
    ) -> Result<Self, Rejection> {
        fields.check_host(version, target.authority)?;
        let framing = fields.framing(version)?;
        Ok(Head {
            method,
            target: target.path,
            version,
            keep_alive: fields.keep_alive(version),
            framing,
            expect_continue: fields.expect_continue(version, framing),
            application: fields.application,
        })
    }

    /// What the response to this request says about the connection.
    pub fn persistence(&self) -> Persistence {
        match (self.keep_alive, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http11) => Persistence::KeepAlive,
            (true, Version::Http10) => Persistence::KeepAliveHttp10,
        }
    }
}

impl<'b> Method<'b> {
    pub(super) fn parse(token: &'b str) -> Result<Self, Rejection> {
        match token {
            "GET" => Ok(Method::Get),
            "POST" => Ok(Method::Post),
            "HEAD" => Ok(Method::Head),
            "OPTIONS" => Ok(Method::Options),
            "CONNECT" => Err(Rejection::new(501, "CONNECT is not supported")),
            _ => Ok(Method::Other(token)),
        }
    }
}
