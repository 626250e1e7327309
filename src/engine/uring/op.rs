//! Encodes in `user_data` what a completion belongs to: the kind of operation, the slot and its generation.

use crate::broker::io::ConnId;

/// The number of slots that fit into `user_data`.
pub const SLOTS_MAX: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 24;
const SLOT_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Accepts until cancelled; the slot is the acceptor's number.
    Accept,
    /// Polls the waker's eventfd.
    Wake,
    /// Receives until it is cancelled, fails or finds no buffer.
    Receive,
    /// Sends a single byte ahead of the rest.
    LeadByte,
    /// Sends the rest of a response.
    Send,
    /// Takes a message from the error queue.
    Errors,
    /// Asks how many of the sent bytes the peer has not acknowledged.
    AckCheck,
    /// Polls for the peer's FIN or reset while no receive is armed that would find it.
    Watch,
    /// A close or a cancellation, whose completion the engine ignores.
    Silent,
}

const KINDS: [Kind; 9] = [
    Kind::Accept,
    Kind::Wake,
    Kind::Receive,
    Kind::LeadByte,
    Kind::Send,
    Kind::Errors,
    Kind::AckCheck,
    Kind::Watch,
    Kind::Silent,
];

/// An operation of a connection, or of an acceptor, whose number is in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    pub kind: Kind,
    pub conn: ConnId,
}

impl Op {
    /// An operation that belongs to no connection; `number` tells several of a kind apart.
    pub fn of_engine(kind: Kind, number: usize) -> Op {
        Op { kind, conn: ConnId { slot: number as u32, generation: 0 } }
    }

    pub fn user_data(self) -> u64 {
        debug_assert!((self.conn.slot as usize) < SLOTS_MAX);
        (self.kind as u64) << KIND_SHIFT
            | u64::from(self.conn.slot) << SLOT_SHIFT
            | u64::from(self.conn.generation)
    }

    /// `None` if no operation of this engine has such `user_data`.
    pub fn from_user_data(data: u64) -> Option<Op> {
        let kind = *KINDS.get((data >> KIND_SHIFT) as usize)?;
        let slot = (data >> SLOT_SHIFT) as u32 & (SLOTS_MAX as u32 - 1);
        Some(Op { kind, conn: ConnId { slot, generation: data as u32 } })
    }
}

/// An operation of `conn`.
pub fn op(kind: Kind, conn: ConnId) -> Op {
    Op { kind, conn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_the_way_through_user_data() {
        for (index, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            for slot in [0, 1, SLOTS_MAX as u32 - 1] {
                for generation in [0, 1, u32::MAX] {
                    let op = Op { kind, conn: ConnId { slot, generation } };
                    assert_eq!(Op::from_user_data(op.user_data()), Some(op));
                }
            }
        }
        assert_eq!(Op::from_user_data(u64::MAX), None);
    }
}
