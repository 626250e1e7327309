//! Why a deployment token is invalid.

use crate::broker::time::Time;
use std::fmt;

/// A token has about 500 bytes. The broker refuses one longer than this limit before it computes anything from it.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// Why the deployment id of a poll is not a valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A bare id instead of a token.
    Bare,
    /// Longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// A part is not canonical base64url without padding (RFC 4648 section 5).
    Encoding(Part),
    /// A part is not one JSON object.
    NotJson(Part),
    /// No `alg`, or one that is not a string.
    NoAlgorithm,
    /// `alg` twice: readers differ in which of the two they take.
    RepeatedAlgorithm,
    /// An `alg` other than HS256.
    OtherAlgorithm,
    /// `crit`: an extension that must be understood (RFC 7515 section 4.1.11).
    Extension,
    /// Not signed with a known secret.
    Signature,
    Claim(Claim, ClaimFault),
    Expired,
    /// The token is for a version other than the poll's.
    OtherVersion,
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Header,
    Payload,
    Signature,
}

/// A claim that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Ver,
    Deployment,
    DeploymentVersion,
    EnvironmentId,
    EnvironmentType,
    OrgId,
    ProjectId,
    Exp,
    Iss,
    Aud,
    Nbf,
    Iat,
}

impl Claim {
    /// All claims with their names, the [`Claim::REQUIRED`] ones first.
    pub const ALL: [(Claim, &'static str); 12] = [
        (Claim::Ver, "ver"),
        (Claim::Deployment, "deployment"),
        (Claim::DeploymentVersion, "deployment_version"),
        (Claim::EnvironmentId, "environment_id"),
        (Claim::EnvironmentType, "environment_type"),
        (Claim::OrgId, "org_id"),
        (Claim::ProjectId, "project_id"),
        (Claim::Exp, "exp"),
        (Claim::Iss, "iss"),
        (Claim::Aud, "aud"),
        (Claim::Nbf, "nbf"),
        (Claim::Iat, "iat"),
    ];
    /// How many claims of [`Claim::ALL`] are required.
    pub const REQUIRED: usize = 8;

    fn name(self) -> &'static str {
        Claim::ALL[self as usize].1
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Claim::Ver | Claim::Exp | Claim::Nbf | Claim::Iat)
    }
}

/// What is wrong with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFault {
    Missing,
    Repeated,
    Type,
    /// The value belongs to another service, another token version or a later time.
    Value,
}

/// The kind of a fault, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A bare id instead of a token.
    Bare,
    /// Not a JWT.
    Malformed,
    /// An algorithm other than HS256.
    Algorithm,
    /// Not signed with a known secret.
    Signature,
    /// Signed, but without the claims of a deployment token.
    Claims,
    Expired,
    Version,
}

/// A poll with an invalid token, for the log. Its texts are shortened and unverified, and never contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSample {
    pub at: Time,
    pub fault: Fault,
    /// The deployment that the poll names.
    pub deployment: String,
    /// The node that the poll names.
    pub node: String,
}

impl Fault {
    pub const fn reason(self) -> Reason {
        match self {
            Fault::Bare => Reason::Bare,
            Fault::TooLong | Fault::Encoding(_) | Fault::NotJson(_) => Reason::Malformed,
            Fault::NoAlgorithm | Fault::RepeatedAlgorithm | Fault::OtherAlgorithm | Fault::Extension => {
                Reason::Algorithm
            }
            Fault::Signature => Reason::Signature,
            Fault::Claim(..) => Reason::Claims,
            Fault::Expired => Reason::Expired,
            Fault::OtherVersion => Reason::Version,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Payload => "payload",
            Part::Signature => "signature",
        })
    }
}

/// For the poll's sender. Quotes nothing of the token.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Bare => {
                f.write_str("the deployment id must be a deployment token; a bare id is not accepted")
            }
            Fault::TooLong => {
                write!(f, "the deployment token is longer than {} bytes", TOKEN_BYTES_MAX)
            }
            Fault::Encoding(part) => {
                write!(f, "the deployment token's {part} is not base64url in its canonical form")
            }
            Fault::NotJson(part) => write!(f, "the deployment token's {part} is not a JSON object"),
            Fault::NoAlgorithm => f.write_str("the deployment token's header names no algorithm"),
            Fault::RepeatedAlgorithm => {
                f.write_str("the deployment token's header names its algorithm more than once")
            }
            Fault::OtherAlgorithm => f.write_str("the deployment token's algorithm must be HS256"),
            Fault::Extension => f.write_str(
                "the deployment token's header has critical extensions (crit), which are not supported",
            ),
            Fault::Signature => f.write_str("the deployment token is not signed with a known secret"),
            Fault::Claim(claim, fault) => {
                let name = claim.name();
                match fault {
                    ClaimFault::Missing => write!(f, "the deployment token's claim {name} is missing"),
                    ClaimFault::Repeated => {
                        write!(f, "the deployment token's claim {name} occurs more than once")
                    }
                    ClaimFault::Type if claim.is_number() => {
                        write!(f, "the deployment token's claim {name} must be a number")
                    }
                    ClaimFault::Type => write!(f, "the deployment token's claim {name} must be a string"),
                    ClaimFault::Value => match claim {
                        Claim::Ver => f.write_str("the deployment token's claim ver must be 1"),
                        Claim::Nbf => f.write_str("the deployment token is not valid yet"),
                        Claim::Deployment => {
                            f.write_str("the deployment token's claim deployment must not be empty")
                        }
                        _ => write!(f, "the deployment token's claim {name} belongs to another service"),
                    },
                }
            }
            Fault::Expired => f.write_str("the deployment token has expired"),
            Fault::OtherVersion => f.write_str("the deployment token is for a version other than the poll's"),
        }
    }
}
