//! Environment variables that have no flag, because every user of the host can read a secret on a command line.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use zeroize::Zeroizing;

/// Pilotlight's variable, then the supervisor's.
const SECRETS: [&str; 2] = ["PILOTLIGHT_TOKEN_SECRET", "WORKLOAD_TOKEN_SECRET"];
/// The supervisor's variable for what it does with tokens.
pub const ENFORCEMENT: &str = "WORKLOAD_TOKEN_ENFORCEMENT";

/// The variables by which Trigger.dev's supervisor is configured for tokens. The broker may share its environment.
#[derive(Debug, Default)]
pub struct TokenVariables {
    pub secret: Option<SecretVariable>,
    /// `WORKLOAD_TOKEN_ENFORCEMENT`; bytes that are not UTF-8 are replaced.
    pub enforcement: Option<String>,
}

/// A secret from the environment.
pub struct SecretVariable {
    pub name: &'static str,
    pub value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SecretVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl TokenVariables {
    /// Reads the environment. An empty variable counts as unset.
    pub fn read() -> Self {
        TokenVariables::from(|name| std::env::var_os(name))
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let secret = SECRETS.into_iter().find_map(|name| {
            let value = Zeroizing::new(set(name)?.into_vec());
            Some(SecretVariable { name, value })
        });
        let enforcement = set(ENFORCEMENT).map(|value| value.to_string_lossy().into_owned());
        TokenVariables { secret, enforcement }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> TokenVariables {
        TokenVariables::from(|asked| {
            let found = variables.iter().find(|(name, _)| *name == asked);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn pilotlight_s_variable_precedes_the_supervisor_s() {
        let both = [("WORKLOAD_TOKEN_SECRET", "theirs"), ("PILOTLIGHT_TOKEN_SECRET", "ours")];
        assert_eq!(**read(&both).secret.unwrap().value, *b"ours");
        assert_eq!(**read(&both[..1]).secret.unwrap().value, *b"theirs");
        assert!(read(&[("PILOTLIGHT_TOKEN_SECRET", "")]).secret.is_none());
        assert_eq!(format!("{:?}", read(&both).secret), "Some(PILOTLIGHT_TOKEN_SECRET)");
    }
}
