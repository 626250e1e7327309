//! What the tests judge: a binary, on an engine.

/// The binary that was just built, or another one (PILOTLIGHT_BIN).
pub fn binary() -> String {
    std::env::var("PILOTLIGHT_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pilotlight").to_owned())
}

/// The engine (PILOTLIGHT_ENGINE): said, never found out by the broker.
pub fn engine() -> String {
    std::env::var("PILOTLIGHT_ENGINE").unwrap_or_else(|_| "epoll".to_owned())
}
