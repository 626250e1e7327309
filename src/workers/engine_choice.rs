//! Chooses the engine by `--engine`, the kernel and the number of workers.

use super::error::StartError;
use crate::config::EngineChoice;
use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Available on every Linux.
    Epoll,
    /// Available where build, kernel and sandbox allow it.
    IoUring,
}

impl Chosen {
    /// The value of `--engine`.
    pub const fn name(self) -> &'static str {
        match self {
            Chosen::Epoll => "epoll",
            Chosen::IoUring => "io-uring",
        }
    }

    /// The error for a failed set-up of this engine.
    pub fn error(self, source: io::Error) -> StartError {
        StartError::Engine { engine: self.name(), source }
    }
}

/// The engine to run, and for `auto` the reason. An engine chosen by name is never replaced: if it does not work,
/// the start fails. If `inline_handling`, several workers could handle each other's mail inline.
pub fn choose(choice: EngineChoice, inline_handling: bool) -> (Chosen, Option<String>) {
    match choice {
        EngineChoice::Epoll => (Chosen::Epoll, None),
        EngineChoice::IoUring => (Chosen::IoUring, None),
        EngineChoice::Auto => {
            let (chosen, why) = auto(inline_handling);
            (chosen, Some(why))
        }
    }
}

/// The fastest available engine (docs/benchmarks.md).
fn auto(inline_handling: bool) -> (Chosen, String) {
    if inline_handling {
        let why = "several workers need not wake each other with it, which takes less CPU time than io_uring";
        return (Chosen::Epoll, why.to_owned());
    }
    match probe_io_uring() {
        Ok(()) => (Chosen::IoUring, "io_uring takes the least CPU time per match".to_owned()),
        Err(why) => (Chosen::Epoll, format!("io_uring is not available: {why}")),
    }
}

#[cfg(feature = "io-uring")]
fn probe_io_uring() -> Result<(), String> {
    crate::engine::uring::Uring::probe_kernel().map_err(|error| error.to_string())
}

#[cfg(not(feature = "io-uring"))]
fn probe_io_uring() -> Result<(), String> {
    Err("this build does not contain it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_engine_is_used_and_auto_gives_a_reason() {
        for inline_handling in [false, true] {
            assert_eq!(choose(EngineChoice::Epoll, inline_handling), (Chosen::Epoll, None));
            assert_eq!(choose(EngineChoice::IoUring, inline_handling), (Chosen::IoUring, None));
            let (chosen, why) = choose(EngineChoice::Auto, inline_handling);
            assert!(why.is_some_and(|why| !why.is_empty()));
            assert_eq!(chosen == Chosen::IoUring, !inline_handling && probe_io_uring().is_ok());
        }
    }
}
