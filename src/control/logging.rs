//! Logging to standard error, as text or JSON.

use crate::config::{LogConfig, LogFormat};
use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Sets up logging for the whole process. Call it once.
pub fn init(config: &LogConfig) -> Result<(), ParseError> {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into()).parse(&config.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).with_target(false).init();
        }
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
