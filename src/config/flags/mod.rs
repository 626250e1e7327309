//! The flags of `pilotlight serve`.
//!
//! To add a flag, define it in the file of its subject and add it to the `FLAGS` of that file. The help, completions,
//! man page, environment variable, error messages, docs/reference/settings.md (written by a test) and `/api/settings`
//! follow from the definition.
//!
//! - `flag`: what a flag consists of; `table`: all flags; `typed`: the flags of one start; `command`: from and to
//!   clap.
//! - `ranges`, `show`: shared parts of definitions.
//! - One file per subject: its flags, and how they become a part of [`super::ServeConfig`].

pub mod advanced;
mod command;
pub mod delivery;
mod flag;
pub mod limits;
pub mod listeners;
pub mod matching;
pub mod monitoring;
mod ranges;
pub mod security;
mod show;
mod table;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod timeouts;
pub mod tls;
pub mod tokens;
pub mod traces;
mod typed;
pub mod workers;

pub use command::{SEE_ADVANCED, add_to, show_advanced};
pub use flag::{AnyFlag, Flag, Preset, Section};
pub use table::{all, in_force};
pub use typed::ServeFlags;
