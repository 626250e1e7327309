//! The flags of one start, as typed.

use super::flag::{Flag, Preset};
use crate::config::error::ConfigError;
use crate::config::values::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The values of the flags of `pilotlight serve` as typed, not yet read. A flag that is missing has its default.
#[derive(Clone, Debug, Default)]
pub struct ServeFlags {
    /// By name, with the dashes.
    values: BTreeMap<&'static str, OsString>,
}

impl ServeFlags {
    /// `values`, and defaults for all other flags. Ignores the environment.
    pub fn with<V: Into<OsString>>(values: impl IntoIterator<Item = (&'static str, V)>) -> ServeFlags {
        ServeFlags { values: values.into_iter().map(|(name, value)| (name, value.into())).collect() }
    }

    /// The value of a flag that has a default.
    ///
    /// # Panics
    /// If the flag has no default.
    pub(in crate::config) fn get<T: Value>(&self, flag: &Flag<T>) -> Result<T, ConfigError> {
        self.find(flag).transpose().unwrap_or_else(|| panic!("{} has no default", flag.name))
    }

    /// The value of a flag that may be unset.
    pub(in crate::config) fn find<T: Value>(&self, flag: &Flag<T>) -> Result<Option<T>, ConfigError> {
        self.typed(flag).map(|typed| flag.read(typed)).transpose()
    }

    pub(in crate::config) fn is_on(&self, switch: &Flag<bool>) -> Result<bool, ConfigError> {
        self.find(switch).map(|value| value.unwrap_or(false))
    }

    /// A flag's value as it was typed, or its default.
    fn typed<T: Value>(&self, flag: &Flag<T>) -> Option<&OsStr> {
        let given = self.values.get(flag.name).map(OsString::as_os_str);
        given.or(match flag.default {
            Preset::Value(value) => Some(OsStr::new(value)),
            Preset::Unset(_) => None,
        })
    }

    /// A flag's value as it was typed, or its default, as text for a message.
    pub(in crate::config) fn shown<T: Value>(&self, flag: &Flag<T>) -> String {
        self.typed(flag).map_or("unset".to_owned(), |typed| typed.to_string_lossy().into_owned())
    }

    /// The error that the flag's value cannot be used. `problem` is the rest of a sentence that begins with the value.
    pub(in crate::config) fn refuse<T: Value>(&self, flag: &Flag<T>, problem: &str) -> ConfigError {
        match self.typed(flag) {
            Some(typed) => flag.refuse(typed, problem),
            None => ConfigError::of_flag(flag.name, Some(flag.variable), problem),
        }
    }
}
