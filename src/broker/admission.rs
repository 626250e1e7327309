//! Which deployment a poll is held for: what its header says, or what its token does.

use super::Broker;
use super::contract::PollRequest;
use super::http::Rejection;
use super::io::{Event, Shared};
use super::key::KeyRef;
use super::report::Counters;
use super::settings::TokenMode;
use super::time::Time;
use super::token::fault::{Fault, Reason};
use super::token::{claimed_deployment, is_token_shaped};

impl<S: Shared> Broker<S> {
    /// Holds a well-formed poll under the key that it may have.
    ///
    /// # Errors
    /// 401 where tokens are enforced and this one is at fault. Its runner exits: it is no runner of
    /// this supervisor's, or one that the supervisor would not serve either.
    #[inline]
    pub(super) fn admit_poll(
        &mut self,
        now: Time,
        slot: u32,
        poll: &PollRequest<'_>,
    ) -> Result<(), Rejection> {
        let is_plain = self.settings.token_mode == TokenMode::Off && !is_token_shaped(poll.key.deployment);
        if is_plain {
            self.hold_poll(now, slot, poll.key, poll.instance, NEVER);
            return Ok(());
        }
        self.admit_token(now, slot, poll)
    }

    #[inline(never)]
    fn admit_token(&mut self, now: Time, slot: u32, poll: &PollRequest<'_>) -> Result<(), Rejection> {
        let key = poll.key;
        if self.settings.token_mode != TokenMode::Off {
            let unix_us = self.unix_us_at_origin.saturating_add(now.0);
            match self.tokens.check(key.deployment, key.version, unix_us) {
                Ok(verified) => {
                    // No run is offered past the token's end, as the clock stands now.
                    let expires = Time(verified.expires_unix_us.saturating_sub(self.unix_us_at_origin));
                    let key = KeyRef { deployment: &verified.deployment, ..key };
                    self.hold_poll(now, slot, key, poll.instance, expires);
                    return Ok(());
                }
                Err(fault) => self.at_fault(fault)?,
            }
        }
        // Read, not trusted: runners with a token and runners without one wait in the same pool.
        let claimed = claimed_deployment(key.deployment);
        let key = KeyRef { deployment: claimed.as_deref().unwrap_or(key.deployment), ..key };
        self.hold_poll(now, slot, key, poll.instance, NEVER);
        Ok(())
    }

    /// Counts the fault and says so; an error only where tokens are enforced.
    #[cold]
    fn at_fault(&mut self, fault: Fault) -> Result<(), Rejection> {
        let Counters {
            token_bare,
            token_malformed,
            token_algorithm,
            token_signature,
            token_claims,
            token_expired,
            token_version,
            ..
        } = &mut self.counters;
        *match fault.reason() {
            Reason::Bare => token_bare,
            Reason::Malformed => token_malformed,
            Reason::Algorithm => token_algorithm,
            Reason::Signature => token_signature,
            Reason::Claims => token_claims,
            Reason::Expired => token_expired,
            Reason::Version => token_version,
        } += 1;
        if self.settings.token_mode == TokenMode::Enforce {
            return Err(Rejection { error: fault.to_string().into(), ..Rejection::new(401, "") });
        }
        self.emit(|_| Event::TokenAtFault { fault });
        Ok(())
    }
}

/// For polls that no token limits.
const NEVER: Time = Time(u64::MAX);
