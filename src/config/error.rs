//! Why a setting cannot be used.

use std::ffi::OsStr;

/// A setting that cannot be used, as one line: flag, environment variable, value, what is wrong, what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    setting: String,
    problem: String,
}

impl ConfigError {
    /// A value that cannot be used. `problem` is the rest of a sentence that begins with the value.
    pub fn of_value(flag: &str, variable: Option<&str>, value: &OsStr, problem: &str) -> ConfigError {
        // Debug quotes the value and escapes line ends, so that the message stays one line.
        ConfigError::of_flag(flag, variable, &format!("{value:?} {problem}"))
    }

    /// A flag that cannot be used, for a reason other than its value. `problem` is a sentence.
    pub fn of_flag(flag: &str, variable: Option<&str>, problem: &str) -> ConfigError {
        let setting = match variable {
            Some(variable) => format!("{flag} ({variable})"),
            None => flag.to_owned(),
        };
        ConfigError { setting, problem: problem.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_flag_variable_and_value() {
        let problem = "is not a duration. Use a value such as 30s or 5m.";
        let error =
            ConfigError::of_value("--keepalive", Some("PILOTLIGHT_KEEPALIVE"), OsStr::new("a\nb"), problem);
        assert_eq!(
            error.to_string(),
            "--keepalive (PILOTLIGHT_KEEPALIVE): \"a\\nb\" is not a duration. Use a value such as 30s or 5m."
        );
        let error = ConfigError::of_value("VARIABLE", None, OsStr::new("x"), "is not y.");
        assert_eq!(error.to_string(), "VARIABLE: \"x\" is not y.");
    }
}
