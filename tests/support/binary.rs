//! The binary and the engine under test.

/// The binary that cargo built, or the one that PILOTLIGHT_BIN names.
pub fn binary() -> String {
    std::env::var("PILOTLIGHT_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pilotlight").to_owned())
}

/// The engine that PILOTLIGHT_ENGINE names, or epoll. Tests name it always: `auto` is not under test.
pub fn engine() -> String {
    std::env::var("PILOTLIGHT_ENGINE").unwrap_or_else(|_| "epoll".to_owned())
}
