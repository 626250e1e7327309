//! From flags and environment to one validated configuration.
//!
//! - [`flags`]: one item per flag of `pilotlight serve`; [`values`]: the types of their values.
//! - [`ServeConfig`]: the result, as plain data; `resolve` builds it.

mod admin_token;
mod error;
pub mod flags;
mod resolve;
mod serve_config;
#[cfg(test)]
mod tests;
mod token_secrets;
pub mod values;

pub use crate::sys::listen::ListenSpec;
pub use crate::sys::tcp::TcpOptions;
pub use admin_token::AdminToken;
pub use error::ConfigError;
pub use flags::ServeFlags;
pub use flags::limits::ADMIN_CONNECTIONS_MAX;
pub use flags::workers::WORKERS_MAX;
pub use serve_config::{
    AdminChanges, Listeners, LogConfig, ProcessConfig, ServeConfig, TlsConfig, TokenConfig, TraceConfig,
    Watching,
};
pub use token_secrets::{Loaded, SecretSource, SecretsError, load as load_secrets};
pub use values::{DescriptorTables, EngineChoice, LogFormat};
