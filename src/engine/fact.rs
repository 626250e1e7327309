//! Facts that wait to be told. `Received` is not among them: its bytes are lent on the way out.

use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, TcpFacts};

/// A fact that owns its content.
pub enum Fact {
    /// See [`Input::Accepted`].
    Accepted { conn: ConnId, side: Side },
    /// See [`Input::AcceptFailed`].
    AcceptFailed,
    /// See [`Input::Sent`].
    Sent(ConnId),
    /// See [`Input::Acked`].
    Acked(ConnId),
    /// See [`Input::PeerClosed`].
    PeerClosed { conn: ConnId, facts: Option<TcpFacts> },
    /// See [`Input::Reset`].
    Reset(ConnId),
    /// See [`Input::Probed`].
    Probed { conn: ConnId, facts: TcpFacts },
}

impl Fact {
    /// As the core takes it.
    pub fn into_input(self) -> Input<'static> {
        match self {
            Fact::Accepted { conn, side } => Input::Accepted { conn, side },
            Fact::AcceptFailed => Input::AcceptFailed,
            Fact::Sent(conn) => Input::Sent { conn },
            Fact::Acked(conn) => Input::Acked { conn },
            Fact::PeerClosed { conn, facts } => Input::PeerClosed { conn, facts },
            Fact::Reset(conn) => Input::Reset { conn },
            Fact::Probed { conn, facts } => Input::Probed { conn, facts },
        }
    }
}
