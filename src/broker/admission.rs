//! The deployment that a poll is held for: from its header field, or from its token.

use super::Broker;
use super::contract::{self, PollRequest};
use super::event::Event;
use super::http::Rejection;
use super::io::Shared;
use super::pools::KeyRef;
use super::settings::TokenMode;
use super::time::Time;
use super::token::fault::{Fault, Reason};
use super::token::{starts_like_token, unverified_deployment};

/// For a poll whose token does not limit its offers.
const NEVER: Time = Time(u64::MAX);

impl<S: Shared> Broker<S> {
    /// Holds a well-formed poll under the key to which it is entitled.
    ///
    /// # Errors
    /// 401 if tokens are enforced and this one is invalid. The runner then exits. That is safe: either its
    /// supervisor did not start it, or the supervisor would refuse it too.
    #[inline]
    pub(super) fn admit_poll(
        &mut self,
        now: Time,
        slot: u32,
        poll: &PollRequest<'_>,
    ) -> Result<(), Rejection> {
        if self.settings.token_mode == TokenMode::Off && !starts_like_token(poll.key.deployment) {
            self.hold_poll(now, slot, poll.key, poll.node, NEVER);
            return Ok(());
        }
        self.admit_by_token(now, slot, poll)
    }

    #[inline(never)]
    fn admit_by_token(&mut self, now: Time, slot: u32, poll: &PollRequest<'_>) -> Result<(), Rejection> {
        let key = poll.key;
        if self.settings.token_mode != TokenMode::Off {
            match self.tokens.check(now, key.deployment, key.version) {
                Ok((deployment, expires)) => {
                    let key = KeyRef { deployment: &deployment, ..key };
                    self.hold_poll(now, slot, key, poll.node, expires);
                    return Ok(());
                }
                Err(fault) => self.handle_fault(now, fault, poll)?,
            }
        }
        // Not verified. Runners with a token and runners without one wait in the same pool.
        let unverified = unverified_deployment(key.deployment);
        let key = KeyRef { deployment: unverified.as_deref().unwrap_or(key.deployment), ..key };
        self.hold_poll(now, slot, key, poll.node, NEVER);
        Ok(())
    }

    /// Counts and reports an invalid token.
    ///
    /// # Errors
    /// 401 if tokens are enforced.
    #[cold]
    fn handle_fault(&mut self, now: Time, fault: Fault, poll: &PollRequest<'_>) -> Result<(), Rejection> {
        let counters = &mut self.counters;
        *match fault.reason() {
            Reason::Bare => &mut counters.token_bare,
            Reason::Malformed => &mut counters.token_malformed,
            Reason::Algorithm => &mut counters.token_algorithm,
            Reason::Signature => &mut counters.token_signature,
            Reason::Claims => &mut counters.token_claims,
            Reason::Expired => &mut counters.token_expired,
            Reason::Version => &mut counters.token_version,
        } += 1;
        self.tokens.sample_fault(now, fault, poll.key.deployment, poll.node);
        if self.settings.token_mode == TokenMode::Enforce {
            return Err(contract::token_rejection(fault.to_string()));
        }
        self.emit(|_| Event::InvalidToken { fault });
        Ok(())
    }
}
