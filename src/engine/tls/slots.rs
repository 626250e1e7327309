//! The connections of the engine below, by slot.

use super::session::Session;
use crate::broker::io::{ConnId, Payload, SendConfirm};

/// The connection that has this slot of the engine below.
pub struct Slot {
    pub generation: u32,
    pub user: User,
}

pub enum User {
    /// The broker has closed or reset it.
    Gone,
    /// A connection without TLS.
    Plain,
    Secure(Box<Secure>),
}

/// A connection with TLS.
pub struct Secure {
    pub session: Session,
    pub under_way: UnderWay,
    /// The broker's payload, while the layer's own is under way.
    pub waiting: Option<(Payload, SendConfirm)>,
    /// Encrypted bytes of the layer's own, while the broker's payload is under way.
    pub own: Vec<u8>,
    /// The broker awaits the proof of a delivery to this connection.
    pub awaits_proof: bool,
    /// The peer's close_notify arrived while a delivery awaited its proof.
    pub finished: bool,
    /// A FIN is due after what is under way.
    pub half_close_due: bool,
    /// The session can no longer encrypt or decrypt.
    pub failed: bool,
}

/// Which payload the engine below is sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    Nothing,
    Own,
    Broker,
}

impl Secure {
    pub fn new(session: Session) -> Secure {
        Secure {
            session,
            under_way: UnderWay::Nothing,
            waiting: None,
            own: Vec::new(),
            awaits_proof: false,
            finished: false,
            half_close_due: false,
            failed: false,
        }
    }
}

/// The slot of `conn`, unless another connection has it now.
pub fn slot(slots: &mut [Slot], conn: ConnId) -> Option<&mut Slot> {
    slots.get_mut(conn.slot as usize).filter(|slot| slot.generation == conn.generation)
}

/// The TLS state of `conn`, if it has one.
pub fn secure(slots: &mut [Slot], conn: ConnId) -> Option<&mut Secure> {
    match slot(slots, conn) {
        Some(Slot { user: User::Secure(secure), .. }) => Some(secure),
        _ => None,
    }
}
