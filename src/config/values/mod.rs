//! The types of flag values: durations, sizes, `auto`, and the named choices.
//!
//! An error of `FromStr` or [`Value::read`] is the rest of a sentence that begins with the offending value: what is
//! wrong with it, then what to use instead.

mod choices;
mod numbers;

pub use choices::{DescriptorTables, EngineChoice, LogFormat, name_of};
pub use numbers::{Auto, Bytes, Count, FileMode, Limit, Micros, Millis, Rate, Within};

use crate::broker::settings::{Confirm, MatchOrder, TokenMode};
use clap::builder::PossibleValue;
use clap::{ValueEnum, ValueHint};
use std::ffi::OsStr;
use std::path::PathBuf;

/// A type that a flag's value can have.
pub trait Value: Sized + 'static {
    /// How shells complete the value.
    const HINT: ValueHint = ValueHint::Unknown;
    /// The flag takes no value on the command line; its environment variable is `true` or `false`.
    const IS_SWITCH: bool = false;

    fn read(typed: &OsStr) -> Result<Self, String>;

    /// The values to choose from. Empty if they cannot be listed.
    fn choices() -> Vec<PossibleValue> {
        Vec::new()
    }
}

/// `typed` as UTF-8. Every value except a path must be.
pub fn text(typed: &OsStr) -> Result<&str, String> {
    typed.to_str().ok_or_else(|| "is not UTF-8. Use plain text.".to_owned())
}

/// Implements [`Value`] by `FromStr`.
macro_rules! value_from_str {
    ($($of:ty),+ $(,)?) => {$(
        impl Value for $of {
            fn read(typed: &OsStr) -> Result<Self, String> {
                text(typed)?.parse()
            }
        }
    )+};
}

/// Implements [`Value`] by [`ValueEnum`].
macro_rules! value_from_choices {
    ($($of:ty),+ $(,)?) => {$(
        impl Value for $of {
            fn read(typed: &OsStr) -> Result<Self, String> {
                <$of>::from_str(text(typed)?, false).map_err(|_| {
                    let choices = Self::choices();
                    let names: Vec<&str> = choices.iter().map(PossibleValue::get_name).collect();
                    format!("is not a valid choice. Use one of {}.", names.join(", "))
                })
            }

            fn choices() -> Vec<PossibleValue> {
                <$of>::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
            }
        }
    )+};
}

value_from_str!(
    Millis,
    Micros,
    Bytes,
    Count,
    Limit,
    FileMode,
    Auto<Millis>,
    Auto<Micros>,
    Auto<Bytes>,
    Auto<Count>
);
value_from_choices!(EngineChoice, DescriptorTables, LogFormat, Confirm, MatchOrder, TokenMode);

impl Value for PathBuf {
    const HINT: ValueHint = ValueHint::AnyPath;

    fn read(typed: &OsStr) -> Result<Self, String> {
        match typed.is_empty() {
            true => Err("is not a path. Use the path of a file.".to_owned()),
            false => Ok(PathBuf::from(typed)),
        }
    }
}

impl Value for bool {
    const IS_SWITCH: bool = true;

    fn read(typed: &OsStr) -> Result<Self, String> {
        text(typed)?.parse().map_err(|_| "is not a valid choice. Use one of true, false.".to_owned())
    }
}
