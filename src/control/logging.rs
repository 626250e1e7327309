//! Logging to standard error, as text or JSON.

use crate::config::{LogConfig, LogFormat};
use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sets up logging for the whole process. Call it once.
pub fn init(config: &LogConfig) -> Result<(), ParseError> {
    let filter: Targets = config.filter.parse()?;
    let lines = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr);
    match config.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).with_target(false).finish().with(filter).init();
        }
        LogFormat::Json => lines.json().flatten_event(true).finish().with(filter).init(),
    }
    Ok(())
}
