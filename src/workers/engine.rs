//! Which engine moves the bytes, and why.

use super::StartError;
use crate::config::EngineChoice;
use std::io;

/// The two there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// On every Linux.
    Epoll,
    /// Where build, kernel and sandbox allow it.
    IoUring,
}

impl Chosen {
    /// As it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Chosen::Epoll => "epoll",
            Chosen::IoUring => "io-uring",
        }
    }

    /// It could not be set up.
    pub fn error(self, source: io::Error) -> StartError {
        StartError::Engine { engine: self.name(), source }
    }
}

/// What to run, and for `auto` the reason. What was asked for by name is never replaced: where it
/// can't be had, the start fails and says so. `visits`: several workers could handle each other's mail.
pub fn choose(choice: EngineChoice, visits: bool) -> (Chosen, Option<String>) {
    match choice {
        EngineChoice::Epoll => (Chosen::Epoll, None),
        EngineChoice::IoUring => (Chosen::IoUring, None),
        EngineChoice::Auto => {
            let (chosen, why) = auto(visits);
            (chosen, Some(why))
        }
    }
}

/// What measured best (docs/benchmarks.md), where it can be had.
fn auto(visits: bool) -> (Chosen, String) {
    if visits {
        let why =
            "several workers need not wake each other on it, which takes less processor time than io_uring";
        return (Chosen::Epoll, why.to_owned());
    }
    match io_uring_can_be_had() {
        Ok(()) => (Chosen::IoUring, "io_uring takes the least processor time for a match".to_owned()),
        Err(why) => (Chosen::Epoll, format!("io_uring can't be had: {why}")),
    }
}

#[cfg(feature = "io-uring")]
fn io_uring_can_be_had() -> Result<(), String> {
    crate::engine::uring::Uring::probe_kernel().map_err(|error| error.to_string())
}

#[cfg(not(feature = "io-uring"))]
fn io_uring_can_be_had() -> Result<(), String> {
    Err("this build does not contain it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_at_its_word_and_auto_gives_a_reason() {
        for visits in [false, true] {
            assert_eq!(choose(EngineChoice::Epoll, visits), (Chosen::Epoll, None));
            assert_eq!(choose(EngineChoice::IoUring, visits), (Chosen::IoUring, None));
            let (chosen, why) = choose(EngineChoice::Auto, visits);
            assert!(why.is_some_and(|why| !why.is_empty()));
            assert_eq!(chosen == Chosen::IoUring, !visits && io_uring_can_be_had().is_ok());
        }
    }
}
