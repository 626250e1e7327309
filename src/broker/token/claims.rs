//! A token's claims: from bytes that are known to be signed, or not.

use super::fault::{Claim, ClaimFault, Fault, Part};
use crate::broker::json::{Number, Value, each_member};
use std::borrow::Cow;

/// What Trigger.dev's clients put into and demand of `iss` and `aud` (`v3/jwt` in `@trigger.dev/core`).
const ISSUER: &str = "https://id.trigger.dev";
const AUDIENCE: &str = "https://api.trigger.dev";
const MICROS_PER_S: f64 = 1e6;

/// What a token says, all of it there and of the right type.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims<'b> {
    /// The deployment's friendly id; not empty.
    pub deployment: Cow<'b, str>,
    /// Its version.
    pub deployment_version: Cow<'b, str>,
    /// From then on it is expired. Microseconds of Unix time.
    pub expires_unix_us: u64,
    /// Until then it is not valid yet. Microseconds of Unix time.
    pub not_before_unix_us: u64,
}

impl<'b> Claims<'b> {
    /// Reads all claims of a payload. Claims that are not known here may be anything.
    ///
    /// `iss` and `aud` are Trigger.dev's where they are there; the contract does not list them.
    pub fn read(payload: &'b [u8]) -> Result<Self, Fault> {
        let mut values: [Option<Value<'b>>; Claim::ALL.len()] = Default::default();
        let mut repeated = None;
        each_member(payload, |name, value| {
            let Some(at) = Claim::ALL.iter().position(|(_, known)| *known == name) else { return };
            match &mut values[at] {
                Some(_) => repeated = repeated.or(Some(Claim::ALL[at].0)),
                place => *place = Some(value),
            }
        })
        .map_err(|_| Fault::NotJson(Part::Payload))?;
        if let Some(claim) = repeated {
            return Err(Fault::Claim(claim, ClaimFault::Repeated));
        }
        for ((claim, _), value) in Claim::ALL.iter().zip(&values) {
            let typed = match value {
                None if (*claim as usize) < Claim::REQUIRED => {
                    return Err(Fault::Claim(*claim, ClaimFault::Missing));
                }
                None => continue,
                Some(Value::Text(_)) => !claim.is_number(),
                Some(Value::Number(text)) => claim.is_number() && Number::parse(text).is_some(),
                Some(Value::Other) => false,
            };
            if !typed {
                return Err(Fault::Claim(*claim, ClaimFault::Type));
            }
        }
        let mut text = |claim: Claim| match values[claim as usize].take() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        let refused = |claim| Err(Fault::Claim(claim, ClaimFault::Value));
        let deployment = text(Claim::Deployment).unwrap_or_default();
        let deployment_version = text(Claim::DeploymentVersion).unwrap_or_default();
        if deployment.is_empty() {
            return refused(Claim::Deployment);
        }
        for (claim, ours) in [(Claim::Iss, ISSUER), (Claim::Aud, AUDIENCE)] {
            if text(claim).is_some_and(|theirs| theirs != ours) {
                return refused(claim);
            }
        }
        let number = |claim: Claim| match &values[claim as usize] {
            Some(Value::Number(text)) => Number::parse(text).map(Number::get),
            _ => None,
        };
        if number(Claim::Ver) != Some(1.0) {
            return refused(Claim::Ver);
        }
        // `as` saturates: a time before 1970 is 0, one beyond all others the last.
        let unix_us = |claim| number(claim).map_or(0, |seconds| (seconds * MICROS_PER_S) as u64);
        Ok(Claims {
            deployment,
            deployment_version,
            expires_unix_us: unix_us(Claim::Exp),
            not_before_unix_us: unix_us(Claim::Nbf),
        })
    }

    /// The deployment that a payload names, whoever wrote it. `None` if it names none, or two.
    pub fn deployment(payload: &'b [u8]) -> Option<Cow<'b, str>> {
        let mut deployment = None;
        let mut count = 0;
        let read = each_member(payload, |name, value| {
            if name == Claim::ALL[Claim::Deployment as usize].1 {
                count += 1;
                deployment = match value {
                    Value::Text(text) => Some(text),
                    _ => None,
                };
            }
        });
        let deployment = deployment.filter(|text: &Cow<'_, str>| !text.is_empty());
        (read.is_ok() && count == 1).then_some(deployment)?
    }
}
