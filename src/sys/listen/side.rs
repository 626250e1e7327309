//! The sides that the process serves, each with its own listener.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Runner,
    Dispatch,
    Admin,
}

impl Side {
    /// The flag that sets this listener's address.
    pub const fn flag(self) -> &'static str {
        match self {
            Side::Runner => "--listen",
            Side::Dispatch => "--dispatch-listen",
            Side::Admin => "--admin-listen",
        }
    }

    /// The name in logs and in LISTEN_FDNAMES.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Runner => "runner",
            Side::Dispatch => "dispatch",
            Side::Admin => "admin",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
