//! Which deployment a poll is held for: what its header says, or what its token does.

use super::Broker;
use super::contract::PollRequest;
use super::event::Event;
use super::http::Rejection;
use super::io::Shared;
use super::key::KeyRef;
use super::report::{Counters, FaultSample};
use super::settings::TokenMode;
use super::time::Time;
use super::token::fault::{Fault, Reason};
use super::token::{claimed_deployment, may_be_read, shown};

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
        if self.settings.token_mode == TokenMode::Off && !may_be_read(poll.key.deployment) {
            self.hold_poll(now, slot, poll.key, poll.node);
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
                    self.hold_poll(now, slot, key, poll.node);
                    self.limit_poll(slot, expires);
                    return Ok(());
                }
                Err(fault) => self.at_fault(now, fault, poll)?,
            }
        }
        // Read, not trusted: runners with a token and runners without one wait in the same pool.
        let claimed = claimed_deployment(key.deployment);
        let key = KeyRef { deployment: claimed.as_deref().unwrap_or(key.deployment), ..key };
        self.hold_poll(now, slot, key, poll.node);
        Ok(())
    }

    /// Counts the fault and says so; an error only where tokens are enforced.
    #[cold]
    fn at_fault(&mut self, now: Time, fault: Fault, poll: &PollRequest<'_>) -> Result<(), Rejection> {
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
        self.keep_sample(now, fault, poll);
        if self.settings.token_mode == TokenMode::Enforce {
            return Err(Rejection { error: fault.to_string().into(), ..Rejection::new(401, "") });
        }
        self.emit(|_| Event::TokenAtFault { fault });
        Ok(())
    }

    /// One of them every now and then, so that the log can say whose tokens are at fault.
    fn keep_sample(&mut self, now: Time, fault: Fault, poll: &PollRequest<'_>) {
        let is_recent = |sample: &FaultSample| now.us_since(sample.at) < SAMPLE_EVERY_US;
        if self.token_fault.as_deref().is_some_and(is_recent) {
            return;
        }
        let shortened = |text: &str| text.chars().take(SAMPLE_CHARS_MAX).collect();
        let claimed = claimed_deployment(poll.key.deployment);
        let deployment = shortened(shown(claimed.as_deref().unwrap_or(poll.key.deployment)));
        let node = shortened(poll.node);
        self.token_fault = Some(Box::new(FaultSample { at: now, fault, deployment, node }));
    }
}

/// A sample costs some copies, and a forger decides how often there is something to sample.
const SAMPLE_EVERY_US: u64 = 1_000_000;
/// Longer than what Trigger.dev gives deployments and nodes for names.
const SAMPLE_CHARS_MAX: usize = 64;
