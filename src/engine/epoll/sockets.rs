//! One connection's socket, and the token that names it in epoll.

use super::outgoing::Outgoing;
use crate::broker::io::ConnId;
use crate::engine::ack_expectation::LastAck;
use crate::engine::ack_timestamps::AckTimestamps;
use mio::Token;
use mio::net::TcpStream;
use slab::Slab;

/// The generations that fit beside a slot without reaching the tokens of the waker and the acceptors.
pub const GENERATION_MASK: u32 = u32::MAX >> 1;

/// The state of one connection.
pub struct Socket {
    pub stream: TcpStream,
    pub generation: u32,
    pub paused: bool,
    /// There may be unread bytes or an unread FIN; epoll has reported their edge and will not repeat it.
    pub unread: bool,
    /// The connection has had its share of this turn, and is in `leftover`.
    pub queued: bool,
    /// The peer's FIN has arrived.
    pub fin: bool,
    /// A send awaits its proof of delivery: the engine reports the kernel's view with the FIN.
    pub awaits_proof: bool,
    /// The connection has carried a response, or the beginning of one.
    pub answered: bool,
    pub ack_timestamps: AckTimestamps,
    /// The engine polls for an acknowledgement.
    pub ack_checked: bool,
    pub last_ack: LastAck,
    /// What the kernel has not taken yet.
    pub outgoing: Option<Box<Outgoing>>,
}

impl Socket {
    pub fn new(stream: TcpStream, generation: u32) -> Socket {
        Socket {
            stream,
            generation,
            paused: false,
            unread: false,
            queued: false,
            fin: false,
            awaits_proof: false,
            answered: false,
            ack_timestamps: AckTimestamps::default(),
            ack_checked: false,
            last_ack: None,
            outgoing: None,
        }
    }

    /// Bytes that the engine has not passed to the kernel yet.
    pub fn unsent(&self) -> u64 {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.remaining() as u64)
    }
}

pub fn token(conn: ConnId) -> Token {
    Token((conn.generation as usize) << 32 | conn.slot as usize)
}

pub fn conn_id(token: Token) -> ConnId {
    ConnId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

/// The socket of `conn`, unless another connection has its slot now.
pub fn socket(sockets: &mut Slab<Socket>, conn: ConnId) -> Option<&mut Socket> {
    sockets.get_mut(conn.slot as usize).filter(|socket| socket.generation == conn.generation)
}
