//! The named choices: their names and their explanations.

use crate::broker::settings::{Confirm, MatchOrder, TokenMode};
use clap::ValueEnum;
use clap::builder::PossibleValue;

/// The I/O backend of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Chosen by build, kernel and number of workers
    Auto,
    /// Works on every Linux
    Epoll,
    /// Needs Linux 6.1 and a build with the cargo feature `io-uring`
    IoUring,
}

/// Which descriptor table the broker opens connections in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DescriptorTables {
    /// `process` for several workers if one table holds --max-connections (100,000 if that is auto), else `worker` where the kernel supports it
    Auto,
    /// One table per worker: the limit of open files applies to each worker
    Worker,
    /// One table for the process: workers on epoll can handle each other's mailboxes inline, and ss -p and lsof can attribute connections
    Process,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event
    Text,
    /// One JSON object per event
    Json,
}

impl ValueEnum for Confirm {
    fn value_variants<'a>() -> &'a [Self] {
        &[Confirm::Read, Confirm::Ack, Confirm::Write]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Confirm::Read => PossibleValue::new("read")
                .help("When the runner's process has read every byte of the run"),
            Confirm::Ack => PossibleValue::new("ack").help(
                "When the runner's kernel has acknowledged every byte. Keeps the connection open: for the highest rates",
            ),
            Confirm::Write => PossibleValue::new("write").help(
                "When the broker's kernel has accepted every byte. A run sent to a vanished runner is lost: for comparisons only",
            ),
        })
    }
}

impl ValueEnum for MatchOrder {
    fn value_variants<'a>() -> &'a [Self] {
        &[MatchOrder::Newest, MatchOrder::Oldest]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            MatchOrder::Newest => {
                PossibleValue::new("newest").help("The poll that has been held for the shortest time")
            }
            MatchOrder::Oldest => PossibleValue::new("oldest")
                .help("The poll that has been held for the longest time: spreads runs over all runners"),
        })
    }
}

impl ValueEnum for TokenMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[TokenMode::Off, TokenMode::Log, TokenMode::Enforce]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            TokenMode::Off => PossibleValue::new("off")
                .alias("disabled")
                .help("Read the deployment from the token without verifying it"),
            TokenMode::Log => PossibleValue::new("log").help(
                "As off, but also verify tokens, and count and log the polls that enforce would refuse",
            ),
            TokenMode::Enforce => PossibleValue::new("enforce")
                .help("Refuse polls that have a bare deployment id or an invalid token (401)"),
        })
    }
}

/// The name of a choice, as it would be typed.
pub fn name_of(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
