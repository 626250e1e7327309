//! The flags of `pilotlight top`.

use crate::commands::client::admin::AdminFlags;
use crate::config::values::Millis;
use clap::{Args, ValueEnum};

pub const EXAMPLES: &str = "\
Examples:
  The broker on this machine:
    pilotlight top
  One frame, for a log or a script:
    pilotlight top --once

Keys:
  q, Esc, Ctrl-C  quit            space  pause
  /               search          s, r   sort by another column, reverse the order
  up, down        scroll          tab    scroll the runs instead of the pools

Exit codes:
  0  quit by a key, or the frame was printed
  1  --once could not reach the broker
  2  a flag is invalid";

#[derive(Args, Clone, Debug)]
pub struct TopFlags {
    #[command(flatten)]
    pub admin: AdminFlags,
    /// Time between two updates, 250ms to 1m
    #[arg(long, env = "PILOTLIGHT_TOP_EVERY", value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub every: Millis,
    /// Print one frame and exit. This is the default if the output is not a terminal
    #[arg(long, env = "PILOTLIGHT_TOP_ONCE")]
    pub once: bool,
    /// The column that sorts the pools
    #[arg(long, env = "PILOTLIGHT_TOP_SORT", value_name = "COLUMN", default_value = "waiting")]
    pub sort: PoolOrder,
    /// Show only rows that contain this text
    #[arg(long, env = "PILOTLIGHT_TOP_SEARCH", value_name = "TEXT")]
    pub search: Option<String>,
}

/// The column that sorts the pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PoolOrder {
    /// Runners that wait
    #[default]
    Waiting,
    /// Dispatches answered true
    Warm,
    /// Dispatches answered false
    Cold,
    /// The longest wait
    Oldest,
    /// The deployment's name
    Name,
}

const INTERVAL_MS_MIN: u64 = 250;

fn interval(typed: &str) -> Result<Millis, String> {
    let time: Millis = typed.parse()?;
    match time.0 {
        INTERVAL_MS_MIN..=60_000 => Ok(time),
        _ => Err("is out of range. Use a duration from 250ms to 1m.".to_owned()),
    }
}
