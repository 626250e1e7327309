//! The definition of one flag of `pilotlight serve`.

use crate::config::error::ConfigError;
use crate::config::serve_config::ServeConfig;
use crate::config::values::Value;
use clap::builder::{OsStr as ClapStr, PossibleValue, TypedValueParser};
use clap::{Arg, ArgAction, ValueHint};
use std::ffi::{OsStr, OsString};

/// One flag of `pilotlight serve`. The command line, the environment, the help, the error messages, the settings
/// reference and `/api/settings` all follow from it.
pub struct Flag<T: Value> {
    /// With its dashes: `--keepalive`.
    pub name: &'static str,
    /// `PILOTLIGHT_KEEPALIVE` for `--keepalive`.
    pub variable: &'static str,
    pub section: Section,
    /// The placeholder for the value in the help: `DURATION`. Empty for a switch.
    pub form: &'static str,
    pub default: Preset,
    /// The first sentence of the explanation, without a full stop.
    pub help: &'static str,
    /// The rest of the explanation. May be empty.
    pub details: &'static str,
    /// Checks a value that could be read. The error is the rest of a sentence that begins with the value.
    pub accept: fn(&T) -> Result<(), String>,
    /// The value in force, as `/api/settings` shows it.
    pub show: fn(&ServeConfig) -> String,
}

/// The default of a flag.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// This value, as it would be typed.
    Value(&'static str),
    /// No value. The text says what applies instead; empty if nothing does.
    Unset(&'static str),
}

/// The sections of the help, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Listening,
    Security,
    Tls,
    Tokens,
    Workers,
    Matching,
    Delivery,
    Limits,
    Timeouts,
    DeadPeers,
    Monitoring,
    Traces,
    Logging,
    /// Not in the ordinary help: only a measurement justifies another value.
    Advanced,
}

impl Section {
    pub const fn heading(self) -> &'static str {
        match self {
            Section::Listening => "Listening",
            Section::Security => "Security",
            Section::Tls => "TLS",
            Section::Tokens => "Deployment tokens",
            Section::Workers => "Workers",
            Section::Matching => "Matching",
            Section::Delivery => "Delivery",
            Section::Limits => "Limits",
            Section::Timeouts => "Timeouts",
            Section::DeadPeers => "Dead peers",
            Section::Monitoring => "Monitoring",
            Section::Traces => "Traces",
            Section::Logging => "Logging",
            Section::Advanced => "Advanced",
        }
    }
}

/// For [`Flag::accept`]: every value that can be read.
pub fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}

impl<T: Value> Flag<T> {
    /// Reads and checks a value.
    pub fn read(&self, typed: &OsStr) -> Result<T, ConfigError> {
        let accepted = T::read(typed).and_then(|value| (self.accept)(&value).map(|()| value));
        accepted.map_err(|problem| self.refuse(typed, &problem))
    }

    /// The error that `value` cannot be used. `problem` is the rest of a sentence that begins with the value.
    pub fn refuse(&self, value: impl AsRef<OsStr>, problem: &str) -> ConfigError {
        ConfigError::of_value(self.name, Some(self.variable), value.as_ref(), problem)
    }
}

/// A [`Flag`] whose value can be of any type.
pub trait AnyFlag: Sync {
    fn name(&self) -> &'static str;
    fn variable(&self) -> &'static str;
    fn section(&self) -> Section;
    fn form(&self) -> &'static str;
    fn default(&self) -> Preset;
    fn is_switch(&self) -> bool;
    fn help(&self) -> &'static str;
    fn details(&self) -> &'static str;
    fn choices(&self) -> Vec<PossibleValue>;
    fn check(&self, typed: &OsStr) -> Result<(), ConfigError>;
    fn show(&self, config: &ServeConfig) -> String;
    fn arg(&self) -> Arg;

    /// The name without its dashes.
    fn id(&self) -> &'static str {
        self.name().trim_start_matches('-')
    }
}

impl<T: Value> AnyFlag for Flag<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn section(&self) -> Section {
        self.section
    }

    fn form(&self) -> &'static str {
        self.form
    }

    fn default(&self) -> Preset {
        self.default
    }

    fn is_switch(&self) -> bool {
        T::IS_SWITCH
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn details(&self) -> &'static str {
        self.details
    }

    fn choices(&self) -> Vec<PossibleValue> {
        T::choices()
    }

    fn check(&self, typed: &OsStr) -> Result<(), ConfigError> {
        self.read(typed).map(drop)
    }

    fn show(&self, config: &ServeConfig) -> String {
        (self.show)(config)
    }

    fn arg(&self) -> Arg {
        let mut help = self.help.to_owned();
        if let Preset::Unset(words) = self.default
            && !words.is_empty()
        {
            help.push_str(&format!(" [default: {words}]"));
        }
        let mut arg = Arg::new(self.id())
            .long(self.id())
            .env(self.variable)
            .help_heading(self.section.heading())
            .value_parser(AsTyped(T::choices));
        if !self.details.is_empty() {
            arg = arg.long_help(format!("{help}\n\n{}", self.details));
        }
        arg = arg.help(help);
        if T::IS_SWITCH {
            return arg.action(ArgAction::SetTrue);
        }
        if let Preset::Value(value) = self.default {
            arg = arg.default_value(ClapStr::from(value));
        }
        if T::HINT != ValueHint::Unknown {
            arg = arg.value_hint(T::HINT);
        }
        arg.value_name(self.form).action(ArgAction::Set)
    }
}

/// Keeps a value as typed. `ServeConfig::resolve` reads it later, so all errors have one form, and invalid variables of
/// `serve` do not make other commands fail.
#[derive(Clone)]
struct AsTyped(fn() -> Vec<PossibleValue>);

impl TypedValueParser for AsTyped {
    type Value = OsString;

    fn parse_ref(&self, _: &clap::Command, _: Option<&Arg>, typed: &OsStr) -> Result<OsString, clap::Error> {
        Ok(typed.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let choices = (self.0)();
        (!choices.is_empty()).then(|| Box::new(choices.into_iter()) as _)
    }
}
