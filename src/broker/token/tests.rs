//! Each rule on its own. The forgeries are in `tests/support`, because they are also sent over real sockets.

use super::*;
use fault::{Claim, ClaimFault, Reason};
use proptest::prelude::*;

#[path = "../../../tests/support/token.rs"]
#[allow(dead_code, missing_docs)]
pub(crate) mod bench;

use bench::{EXP, HEADER, OTHER_SECRET, SECRET, VERSION, honest, payload, token};

const NOW_US: u64 = 1_790_000_000_000_000;

fn tokens(secrets: &[&str]) -> Tokens {
    let secrets = Secrets::new(secrets.iter().map(|secret| secret.as_bytes()));
    Tokens::new(secrets, RandomState::with_seeds(1, 2, 3, 4), 4)
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Bare => "bare",
        Reason::Malformed => "malformed",
        Reason::Algorithm => "algorithm",
        Reason::Signature => "signature",
        Reason::Claims => "claims",
        Reason::Expired => "expired",
        Reason::Version => "version",
    }
}

#[test]
fn a_valid_token_is_verified_once() {
    let mut tokens = tokens(&[SECRET]);
    let token = honest("deployment_1", VERSION);
    for _ in 0..3 {
        let verified = tokens.check(&token, VERSION, NOW_US).unwrap();
        assert_eq!(&*verified.deployment, "deployment_1");
        assert_eq!(verified.expires_unix_us, EXP * 1_000_000);
    }
    assert_eq!(tokens.verifications, 1);
}

/// Made by `@trigger.dev/core` 4.8.3:
/// `mintWorkloadDeploymentToken(claims, "integration-test-secret", 1956528000)`.
#[test]
fn accepts_a_token_of_the_real_library() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJ2ZXIiOjEsImRlcGxveW1lbnQiOiJkZXBsb3ltZW50X3Rlc3QiLCJkZXBsb3ltZW50X3ZlcnNpb24iOiIyMDI2MDcxMC4xIiwiZW52aXJvbm1lbnRfaWQiOiJlbnZfdGVzdF8xMjMiLCJlbnZpcm9ubWVudF90eXBlIjoiUFJPRFVDVElPTiIsIm9yZ19pZCI6Im9yZ18xIiwicHJvamVjdF9pZCI6InByb2pfMSIsImlzcyI6Imh0dHBzOi8vaWQudHJpZ2dlci5kZXYiLCJhdWQiOiJodHRwczovL2FwaS50cmlnZ2VyLmRldiIsImV4cCI6MTk1NjUyODAwMH0.Eq9CmuhWEBryT9ljBeQqC2dholOzbxIZPNlaT3_jva0";
    let mut tokens = tokens(&["integration-test-secret"]);
    let verified = tokens.check(token, "20260710.1", NOW_US).unwrap();
    assert_eq!(&*verified.deployment, "deployment_test");
}

#[test]
fn refuses_every_forgery() {
    let bench = bench::forgeries("deployment_1");
    assert!(bench.len() >= 40, "{} forgeries", bench.len());
    for bad in &bench {
        // Twice, because a refused token must not be remembered as valid.
        let mut tokens = tokens(&[OTHER_SECRET, SECRET]);
        if bad.what == "signed with another secret" {
            tokens.replace_secrets(Secrets::new([SECRET.as_bytes()]));
        }
        for _ in 0..2 {
            let fault = tokens.check(&bad.token, bad.version, NOW_US).expect_err(bad.what);
            assert_eq!(
                (reason_name(fault.reason()), &*fault.to_string()),
                (bad.reason, bad.error),
                "{}",
                bad.what
            );
        }
        let unverified = unverified_deployment(&bad.token);
        assert_eq!(
            unverified.as_deref() == Some("deployment_1"),
            bad.claims_deployment,
            "{}: {unverified:?}",
            bad.what
        );
    }
}

#[test]
fn a_remembered_token_expires() {
    let mut tokens = tokens(&[SECRET]);
    let token = honest("deployment_1", VERSION);
    let exp_us = EXP * 1_000_000;
    assert!(tokens.check(&token, VERSION, exp_us - 1).is_ok());
    assert_eq!(tokens.check(&token, VERSION, exp_us), Err(Fault::Expired));
    // When the clock is set back, the token is valid again.
    assert!(tokens.check(&token, VERSION, exp_us - 1).is_ok());
    let early = payload("deployment_1", VERSION, EXP).replacen('{', r#"{"nbf":2000,"#, 1);
    let early = bench::token(SECRET, HEADER, &early);
    assert!(tokens.check(&early, VERSION, 2_000_000_000).is_ok());
    let not_yet = Fault::Claim(Claim::Nbf, ClaimFault::Value);
    assert_eq!(tokens.check(&early, VERSION, 1_999_999_999), Err(not_yet));
}

#[test]
fn a_remembered_token_is_for_its_own_version_only() {
    let mut tokens = tokens(&[SECRET]);
    let token = honest("deployment_1", VERSION);
    assert!(tokens.check(&token, VERSION, NOW_US).is_ok());
    assert_eq!(tokens.check(&token, "20260728.4", NOW_US), Err(Fault::OtherVersion));
    assert!(tokens.check(&token, VERSION, NOW_US).is_ok());
}

#[test]
fn optional_claims_may_be_missing() {
    let mut tokens = tokens(&[SECRET]);
    let all = payload("deployment_1", VERSION, EXP);
    let contract = all.replace(r#""iss":"https://id.trigger.dev","aud":"https://api.trigger.dev","#, "");
    assert_ne!(contract, all);
    let more = all.replacen('{', r#"{"iat":1,"nbf":1,"tomorrow":{"a":[1]},"tomorrow":null,"#, 1);
    let odd = all.replace(r#""ver":1"#, r#""ver" : 1.0"#).replace("deployment_1", r"d\u0065ployment_1");
    for claims in [contract, more, odd, format!(" {all}\n")] {
        for header in [HEADER, r#"{"typ":"JWT","alg":"HS256","kid":"1"}"#] {
            let verified = tokens.check(&token(SECRET, header, &claims), VERSION, NOW_US);
            assert_eq!(
                verified.as_ref().map(|verified| &*verified.deployment),
                Ok("deployment_1"),
                "{claims}"
            );
        }
    }
}

#[test]
fn a_rotation_accepts_both_secrets_then_one() {
    let mut tokens = tokens(&[OTHER_SECRET, SECRET]);
    let old = honest("deployment_1", VERSION);
    let new = token(OTHER_SECRET, HEADER, &payload("deployment_1", VERSION, EXP));
    for token in [&old, &new] {
        assert!(tokens.check(token, VERSION, NOW_US).is_ok());
    }
    tokens.replace_secrets(Secrets::new([OTHER_SECRET.as_bytes()]));
    assert_eq!(tokens.check(&old, VERSION, NOW_US), Err(Fault::Signature));
    assert!(tokens.check(&new, VERSION, NOW_US).is_ok());
    tokens.replace_secrets(Secrets::default());
    assert_eq!(tokens.check(&new, VERSION, NOW_US), Err(Fault::Signature));
}

#[test]
fn forgeries_do_not_evict_valid_tokens() {
    let mut tokens = tokens(&[SECRET]);
    let honest = honest("deployment_1", VERSION);
    tokens.check(&honest, VERSION, NOW_US).unwrap();
    for n in 0..1_000 {
        let forged = token(OTHER_SECRET, HEADER, &payload(&format!("deployment_{n}"), VERSION, EXP));
        assert_eq!(tokens.check(&forged, VERSION, NOW_US), Err(Fault::Signature));
    }
    let before = tokens.verifications;
    tokens.check(&honest, VERSION, NOW_US).unwrap();
    assert_eq!(tokens.verifications, before);
}

#[test]
fn secrets_are_not_printed() {
    let tokens = tokens(&[SECRET, OTHER_SECRET]);
    assert_eq!(format!("{:?}", tokens.secrets), "Secrets(2)");
}

#[test]
fn redacted_never_returns_a_token() {
    let token = honest("deployment_1", VERSION);
    for value in [token.clone(), format!("{token}.x"), format!(".{token}"), token.replace('.', "")] {
        assert_eq!(redacted(&value), "(a token)", "{value}");
    }
    assert_eq!(redacted("deployment_1"), "deployment_1");
}

proptest! {
    #[test]
    fn a_token_has_three_parts(value in "[a.]{0,7}") {
        let parts: Vec<&str> = value.split('.').collect();
        let expected = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        prop_assert_eq!(is_token_shaped(&value), expected);
    }

    #[test]
    fn a_changed_byte_invalidates_a_token(at in 0usize..2_000, byte in 0x21u8..0x7f) {
        let honest = honest("deployment_1", VERSION);
        let mut changed = honest.clone().into_bytes();
        let at = at % changed.len();
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(tokens(&[SECRET]).check(&changed, VERSION, NOW_US).is_err());
    }

    #[test]
    fn never_panics(value in "\\PC{0,40}", parts in prop::collection::vec("[ -~]{0,30}", 3)) {
        let mut tokens = tokens(&[SECRET]);
        let _ = tokens.check(&value, VERSION, NOW_US);
        let _ = unverified_deployment(&value);
        let encoded: Vec<String> = parts.iter().map(bench::encode).collect();
        let token = bench::sign(SECRET, &format!("{}.{}", encoded[0], encoded[1]));
        let _ = tokens.check(&token, VERSION, NOW_US);
        let _ = unverified_deployment(&token);
        let signed = bench::token(SECRET, HEADER, &parts[2]);
        prop_assert!(tokens.check(&signed, VERSION, NOW_US).is_err());
    }
}
