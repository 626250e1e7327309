//! A token's claims.

use super::fault::{Claim, ClaimFault, Fault, Part};
use crate::broker::json::{Number, Value, each_member};
use std::borrow::Cow;

/// The values of `iss` and `aud` that Trigger.dev's clients set and require (`v3/jwt` in `@trigger.dev/core`).
const ISSUER: &str = "https://id.trigger.dev";
const AUDIENCE: &str = "https://api.trigger.dev";
const MICROS_PER_S: f64 = 1e6;

/// The claims that are used, complete and of the right types.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims<'b> {
    /// The deployment's friendly id, not empty.
    pub deployment: Cow<'b, str>,
    pub deployment_version: Cow<'b, str>,
    /// Microseconds of Unix time; expired from then on.
    pub expires_unix_us: u64,
    /// Microseconds of Unix time; not valid before.
    pub not_before_unix_us: u64,
}

impl<'b> Claims<'b> {
    /// Reads all claims of a payload. Unknown claims are ignored.
    ///
    /// `iss` and `aud` are optional, but must be Trigger.dev's if present.
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
        // `as` saturates: a time before 1970 becomes 0.
        let unix_us = |claim| number(claim).map_or(0, |seconds| (seconds * MICROS_PER_S) as u64);
        Ok(Claims {
            deployment,
            deployment_version,
            expires_unix_us: unix_us(Claim::Exp),
            not_before_unix_us: unix_us(Claim::Nbf),
        })
    }

    /// The deployment that a payload names, verified or not. `None` unless it names exactly one.
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
