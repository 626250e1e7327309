//! Facts that wait to be reported. `Received` is not among them: the engine lends its bytes when it reports them.

use crate::broker::contract::Side;
use crate::broker::io::{ConnId, Input, TcpFacts};

/// An [`Input`] without borrowed bytes.
pub enum Fact {
    Accepted { conn: ConnId, side: Side },
    AcceptFailed,
    Sent(ConnId),
    Acked(ConnId),
    PeerClosed { conn: ConnId, facts: Option<TcpFacts> },
    Reset(ConnId),
    Probed { conn: ConnId, facts: TcpFacts },
}

impl Fact {
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
