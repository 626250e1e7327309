//! Deployment tokens: valid ones and forgeries.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};

/// The secret that supervisor and broker share.
pub const SECRET: &str = "an honest supervisor's secret, of 32 bytes and more";
/// A secret that the broker does not know.
pub const OTHER_SECRET: &str = "a secret that the broker knows nothing of, long enough";
/// An expiry in 2032.
pub const EXP: u64 = 1_956_528_000;
pub const VERSION: &str = "20260728.3";
pub const HEADER: &str = r#"{"alg":"HS256"}"#;

/// A token for `deployment`, as `@trigger.dev/core` makes them.
pub fn honest(deployment: &str, version: &str) -> String {
    token(SECRET, HEADER, &payload(deployment, version, EXP))
}

/// The claims of such a token.
pub fn payload(deployment: &str, version: &str, exp: u64) -> String {
    format!(
        r#"{{"ver":1,"deployment":"{deployment}","deployment_version":"{version}","environment_id":"cm0environment","environment_type":"PRODUCTION","org_id":"cm0organization","project_id":"cm0project","iss":"https://id.trigger.dev","aud":"https://api.trigger.dev","exp":{exp}}}"#
    )
}

/// A token with any header and payload, signed with HMAC-SHA-256.
pub fn token(secret: &str, header: &str, payload: &str) -> String {
    sign(secret, &format!("{}.{}", encode(header), encode(payload)))
}

/// Signs any two parts.
pub fn sign(secret: &str, parts: &str) -> String {
    format!("{parts}.{}", URL_SAFE_NO_PAD.encode(hmac(secret, parts)))
}

pub fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn hmac(secret: &str, message: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// A forgery: a token that the broker must not accept for a deployment at [`VERSION`].
pub struct Bad {
    /// A name for the fault.
    pub what: &'static str,
    pub token: String,
    /// The value of `x-trigger-deployment-version`.
    pub version: &'static str,
    /// The reason that the broker counts.
    pub reason: &'static str,
    /// The error that the broker answers.
    pub error: &'static str,
    /// Whether mode `log` can read the deployment in it.
    pub claims_deployment: bool,
}

const MALFORMED_HEADER: &str = "the deployment token's header is not base64url in its canonical form";
const MALFORMED_PAYLOAD: &str = "the deployment token's payload is not base64url in its canonical form";
const MALFORMED_SIGNATURE: &str = "the deployment token's signature is not base64url in its canonical form";
const HEADER_JSON: &str = "the deployment token's header is not a JSON object";
const PAYLOAD_JSON: &str = "the deployment token's payload is not a JSON object";
const NO_ALGORITHM: &str = "the deployment token's header names no algorithm";
const REPEATED_ALGORITHM: &str = "the deployment token's header names its algorithm more than once";
const OTHER_ALGORITHM: &str = "the deployment token's algorithm must be HS256";
const EXTENSION: &str =
    "the deployment token's header has critical extensions (crit), which are not supported";
const SIGNATURE: &str = "the deployment token is not signed with a known secret";
const EXPIRED: &str = "the deployment token has expired";
const OTHER_VERSION: &str = "the deployment token is for a version other than the poll's";
const BARE: &str = "the deployment id must be a deployment token; a bare id is not accepted";

/// Forgeries that claim `deployment`. Some are signed with [`SECRET`], which an attacker does not have,
/// to show that the other checks hold without the signature's.
pub fn forgeries(deployment: &str) -> Vec<Bad> {
    let good = honest(deployment, VERSION);
    let claims = payload(deployment, VERSION, EXP);
    let (header, body) = (encode(HEADER), encode(&claims));
    let parts = format!("{header}.{body}");
    let signature = good.rsplit('.').next().expect("three parts").to_owned();
    let mut all = Vec::new();
    let mut add = |reason, error, what, token: String, claims_deployment| {
        all.push(Bad { what, token, version: VERSION, reason, error, claims_deployment });
    };

    // Not a token.
    let bare = |what, token: String| ("bare", BARE, what, token, false);
    for (reason, error, what, token, claims) in [
        bare("the bare id", deployment.to_owned()),
        bare("a token without its signature", parts.clone()),
        bare("a token with an empty signature", format!("{parts}.")),
        bare("a token without a header", format!(".{body}.{signature}")),
        bare("a token without a payload", format!("{header}..{signature}")),
        bare("four parts", format!("{good}.{signature}")),
        bare("a JWE's five parts", format!("{good}.a.b")),
        bare("the payload alone", body.clone()),
        bare("the claims as they are", claims.replace('.', "")),
        bare("the word Bearer", "Bearer".to_owned()),
    ] {
        add(reason, error, what, token, claims);
    }

    // A wrong algorithm.
    for (what, header, error) in [
        ("alg none", r#"{"alg":"none"}"#, OTHER_ALGORITHM),
        ("alg None", r#"{"alg":"None","typ":"JWT"}"#, OTHER_ALGORITHM),
        ("alg nOnE", r#"{"alg":"nOnE"}"#, OTHER_ALGORITHM),
        ("alg empty", r#"{"alg":""}"#, OTHER_ALGORITHM),
        ("alg HS384, signed with SHA-256", r#"{"alg":"HS384"}"#, OTHER_ALGORITHM),
        ("alg RS256: the public key as the secret", r#"{"alg":"RS256"}"#, OTHER_ALGORITHM),
        ("alg ES256", r#"{"alg":"ES256"}"#, OTHER_ALGORITHM),
        ("alg PS256", r#"{"alg":"PS256"}"#, OTHER_ALGORITHM),
        ("alg EdDSA", r#"{"alg":"EdDSA"}"#, OTHER_ALGORITHM),
        ("alg hs256, another spelling", r#"{"alg":"hs256"}"#, OTHER_ALGORITHM),
        ("alg with a space", r#"{"alg":"HS256 "}"#, OTHER_ALGORITHM),
        ("alg and a NUL", r#"{"alg":"HS256\u0000"}"#, OTHER_ALGORITHM),
        ("no alg", r#"{"typ":"JWT"}"#, NO_ALGORITHM),
        ("an empty header", "{}", NO_ALGORITHM),
        ("alg null", r#"{"alg":null}"#, NO_ALGORITHM),
        ("alg in a list", r#"{"alg":["HS256"]}"#, NO_ALGORITHM),
        ("alg in an object", r#"{"x":{"alg":"HS256"}}"#, NO_ALGORITHM),
        ("Alg, another name", r#"{"Alg":"HS256"}"#, NO_ALGORITHM),
        ("alg twice, none first", r#"{"alg":"none","alg":"HS256"}"#, REPEATED_ALGORITHM),
        ("alg twice, none last", r#"{"alg":"HS256","alg":"none"}"#, REPEATED_ALGORITHM),
        ("alg twice, both HS256", r#"{"alg":"HS256","alg":"HS256"}"#, REPEATED_ALGORITHM),
        ("alg twice, once with an escape", r#"{"alg":"HS256","\u0061lg":"none"}"#, REPEATED_ALGORITHM),
        ("crit", r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, EXTENSION),
        ("an empty crit", r#"{"alg":"HS256","crit":[]}"#, EXTENSION),
    ] {
        add("algorithm", error, what, token(SECRET, header, &claims), true);
    }

    // A wrong signature.
    let (signed_384, signed_512) = {
        let header = encode(r#"{"alg":"HS256"}"#);
        let parts = format!("{header}.{body}");
        let mac = Hmac::<Sha384>::new_from_slice(SECRET.as_bytes()).expect("a key");
        let sha_384 = mac.chain_update(&parts).finalize().into_bytes();
        let mac = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).expect("a key");
        let sha_512 = mac.chain_update(&parts).finalize().into_bytes();
        (format!("{parts}.{}", encode(sha_384)), format!("{parts}.{}", encode(sha_512)))
    };
    let tampered = encode(claims.replace("cm0environment", "cm0other"));
    let other_payload = payload("deployment_of_the_forger", VERSION, EXP);
    let other = token(SECRET, HEADER, &other_payload);
    let other_signature = other.rsplit('.').next().expect("three parts").to_owned();
    let mut flipped = hmac(SECRET, &parts);
    flipped[31] ^= 1;
    let mut flipped_first = hmac(SECRET, &parts);
    flipped_first[0] ^= 0x80;
    for (what, token) in [
        ("signed with another secret", token(OTHER_SECRET, HEADER, &claims)),
        ("signed with an empty secret", token("", HEADER, &claims)),
        ("signed with the secret and a newline", token(&format!("{SECRET}\n"), HEADER, &claims)),
        ("signed with the secret in capitals", token(&SECRET.to_uppercase(), HEADER, &claims)),
        ("changed claims", format!("{header}.{tampered}.{signature}")),
        ("a changed header", format!("{}.{body}.{signature}", encode(r#"{"alg":"HS256","a":1}"#))),
        ("another token's signature", format!("{parts}.{other_signature}")),
        ("the last bit of the signature flipped", format!("{parts}.{}", encode(&flipped))),
        ("the first bit of the signature flipped", format!("{parts}.{}", encode(&flipped_first))),
        ("half of the signature", format!("{parts}.{}", encode(&hmac(SECRET, &parts)[..16]))),
        ("a signature of one byte", format!("{parts}.{}", encode([hmac(SECRET, &parts)[0]]))),
        ("the signature and one more byte", {
            let mut longer = hmac(SECRET, &parts);
            longer.push(0);
            format!("{parts}.{}", encode(longer))
        }),
        ("HMAC-SHA-384 named HS256", signed_384),
        ("HMAC-SHA-512 named HS256", signed_512),
        ("the signature of the payload alone", format!("{parts}.{}", encode(hmac(SECRET, &body)))),
        ("the signature of the decoded parts", {
            format!("{parts}.{}", encode(hmac(SECRET, &format!("{HEADER}.{claims}"))))
        }),
        ("a signature of zeros", format!("{parts}.{}", encode([0; 32]))),
    ] {
        add("signature", SIGNATURE, what, token, true);
    }

    // A malformed token.
    let padded = |text: &str| format!("{text}{}", &"==="[..(4 - text.len() % 4) % 4]);
    let spare_bits = {
        // 32 bytes are 43 characters; the last character has two unused bits.
        let last = signature.as_bytes()[42];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = alphabet.iter().position(|letter| *letter == last).expect("base64url");
        format!("{}{}", &signature[..42], char::from(alphabet[value | 1]))
    };
    let long_claims = claims.replacen('{', &format!(r#"{{"a":"{}","#, "x".repeat(4_000)), 1);
    let too_long = "the deployment token is longer than 4096 bytes";
    for (what, token, error, claims) in [
        ("padding after the signature", format!("{parts}.{}", padded(&signature)), MALFORMED_SIGNATURE, true),
        ("unused bits set in the signature", format!("{parts}.{spare_bits}"), MALFORMED_SIGNATURE, true),
        (
            "plain base64 in the signature",
            format!("{parts}.+/{}", &signature[2..]),
            MALFORMED_SIGNATURE,
            true,
        ),
        (
            "a space in the signature",
            format!("{parts}.{} {}", &signature[..20], &signature[21..]),
            MALFORMED_SIGNATURE,
            true,
        ),
        ("a header that is not base64", format!("a*b.{body}.{signature}"), MALFORMED_HEADER, false),
        (
            "a payload that is not base64, correctly signed",
            sign(SECRET, &format!("{header}.a*b")),
            MALFORMED_PAYLOAD,
            false,
        ),
        (
            "a payload with padding, correctly signed",
            sign(SECRET, &format!("{header}.{}", URL_SAFE.encode(format!("{claims} ")))),
            MALFORMED_PAYLOAD,
            false,
        ),
        (
            "plain base64 in the payload, correctly signed",
            sign(
                SECRET,
                &format!("{header}.{}", STANDARD.encode("{\"a\":\"\u{fe}\u{ff}???>>>\"}").replace('=', "")),
            ),
            MALFORMED_PAYLOAD,
            false,
        ),
        ("a header that is not JSON", sign(SECRET, &format!("{}.{body}", encode("alg"))), HEADER_JSON, false),
        (
            "a list for a header",
            sign(SECRET, &format!("{}.{body}", encode(r#"["HS256"]"#))),
            HEADER_JSON,
            false,
        ),
        (
            "two objects for a header",
            sign(SECRET, &format!("{}.{body}", encode(r#"{"alg":"HS256"}{}"#))),
            HEADER_JSON,
            true,
        ),
        (
            "a header that is not UTF-8",
            sign(SECRET, &format!("{}.{body}", encode(b"{\"alg\":\"HS256\",\"a\":\"\xff\"}"))),
            HEADER_JSON,
            true,
        ),
        ("claims that are not JSON, correctly signed", token_of("claims"), PAYLOAD_JSON, false),
        (
            "a list of claims, correctly signed",
            token_of(r#"[1,"deployment_1","20260728.3","e","t","o","p",1956528000]"#),
            PAYLOAD_JSON,
            false,
        ),
        ("truncated claims, correctly signed", token_of(&claims[..claims.len() - 1]), PAYLOAD_JSON, false),
        ("a token of 5 KB, correctly signed", token_of(&long_claims), too_long, false),
        ("dots and letters", "a.b.c".to_owned(), MALFORMED_HEADER, false),
    ] {
        add("malformed", error, what, token, claims);
    }

    // Correctly signed, with wrong claims.
    let without = |name: &str| {
        let mut claims: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&claims).expect("claims");
        assert!(claims.remove(name).is_some(), "{name}");
        token_of(&serde_json::Value::from(claims).to_string())
    };
    let with = |from: &str, to: &str| {
        let changed = claims.replacen(from, to, 1);
        assert_ne!(changed, claims, "{from}");
        token_of(&changed)
    };
    macro_rules! claim {
        ($name:literal, $fault:literal) => {
            concat!("the deployment token's claim ", $name, " ", $fault)
        };
    }
    for (what, token, error, claims) in [
        ("no ver", without("ver"), claim!("ver", "is missing"), true),
        ("no deployment", without("deployment"), claim!("deployment", "is missing"), false),
        (
            "no deployment_version",
            without("deployment_version"),
            claim!("deployment_version", "is missing"),
            true,
        ),
        ("no environment_id", without("environment_id"), claim!("environment_id", "is missing"), true),
        ("no environment_type", without("environment_type"), claim!("environment_type", "is missing"), true),
        ("no org_id", without("org_id"), claim!("org_id", "is missing"), true),
        ("no project_id", without("project_id"), claim!("project_id", "is missing"), true),
        ("no exp: valid forever", without("exp"), claim!("exp", "is missing"), true),
        ("ver 2", with(r#""ver":1"#, r#""ver":2"#), claim!("ver", "must be 1"), true),
        ("ver 0", with(r#""ver":1"#, r#""ver":0"#), claim!("ver", "must be 1"), true),
        ("ver a string", with(r#""ver":1"#, r#""ver":"1""#), claim!("ver", "must be a number"), true),
        ("ver true", with(r#""ver":1"#, r#""ver":true"#), claim!("ver", "must be a number"), true),
        (
            "exp a string",
            with(&EXP.to_string(), &format!("\"{EXP}\"")),
            claim!("exp", "must be a number"),
            true,
        ),
        ("exp null", with(&EXP.to_string(), "null"), claim!("exp", "must be a number"), true),
        ("exp out of range", with(&EXP.to_string(), "1e999"), claim!("exp", "must be a number"), true),
        (
            "deployment a list",
            with(&format!(r#""{deployment}""#), &format!(r#"["{deployment}"]"#)),
            claim!("deployment", "must be a string"),
            false,
        ),
        (
            "deployment a number",
            with(&format!(r#""{deployment}""#), "1"),
            claim!("deployment", "must be a string"),
            false,
        ),
        (
            "deployment empty",
            with(&format!(r#""{deployment}""#), r#""""#),
            claim!("deployment", "must not be empty"),
            false,
        ),
        (
            "deployment twice",
            with(r#""ver":1"#, r#""ver":1,"deployment":"deployment_of_the_forger""#),
            claim!("deployment", "occurs more than once"),
            false,
        ),
        (
            "deployment twice, once with an escape",
            with(r#""ver":1"#, r#""ver":1,"d\u0065ployment":"deployment_of_the_forger""#),
            claim!("deployment", "occurs more than once"),
            false,
        ),
        (
            "exp twice",
            with(r#""ver":1"#, r#""ver":1,"exp":9999999999"#),
            claim!("exp", "occurs more than once"),
            true,
        ),
        ("org_id null", with(r#""cm0organization""#, "null"), claim!("org_id", "must be a string"), true),
        (
            "another issuer",
            with("https://id.trigger.dev", "https://id.example"),
            claim!("iss", "belongs to another service"),
            true,
        ),
        (
            "another audience",
            with("https://api.trigger.dev", "https://example"),
            claim!("aud", "belongs to another service"),
            true,
        ),
        (
            "iat a string",
            with(r#""ver":1"#, r#""ver":1,"iat":"now""#),
            claim!("iat", "must be a number"),
            true,
        ),
        (
            "not valid before 2100",
            with(r#""ver":1"#, r#""ver":1,"nbf":4102444800"#),
            "the deployment token is not valid yet",
            true,
        ),
    ] {
        add("claims", error, what, token, claims);
    }
    for (what, exp) in [
        ("expired in 2020", "1577836800"),
        ("expired in 1970", "0"),
        ("expired before 1970", "-1"),
        ("expired, written as a float", "1.5778368e9"),
    ] {
        add("expired", EXPIRED, what, with(&EXP.to_string(), exp), true);
    }
    let foreign = |what, version, token_version| Bad {
        what,
        token: honest(deployment, token_version),
        version,
        reason: "version",
        error: OTHER_VERSION,
        claims_deployment: true,
    };
    all.push(foreign("a token of the last version", VERSION, "20260728.2"));
    all.push(foreign("a poll for the last version", "20260728.2", VERSION));
    all.push(foreign("a version that begins alike", VERSION, "20260728.30"));
    all.push(foreign("no version in the token", VERSION, ""));
    all
}

fn token_of(claims: &str) -> String {
    token(SECRET, HEADER, claims)
}
