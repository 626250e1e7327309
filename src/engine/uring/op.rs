//! What a completion is about: the operation, the slot and its generation, in `user_data`.

use crate::broker::io::ConnId;

/// Slots that fit into `user_data`.
pub const SLOTS_MAX: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 24;
const SLOT_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Accepts; the slot is the acceptor's index.
    Accept,
    /// Polls the waker's eventfd.
    Wake,
    /// Receives until it is cancelled, fails or finds no buffer.
    Receive,
    /// Sends a single byte ahead of the rest.
    Piece,
    /// Sends what is left of a response.
    Send,
    /// Takes a message from the error queue.
    Errors,
    /// Asks how much of what was sent is not acknowledged.
    AckCheck,
    /// Polls for the peer's end where no receive is there to see it.
    Watch,
    /// Nobody waits for it: a close or a cancellation.
    Silent,
}

const KINDS: [Kind; 9] = [
    Kind::Accept,
    Kind::Wake,
    Kind::Receive,
    Kind::Piece,
    Kind::Send,
    Kind::Errors,
    Kind::AckCheck,
    Kind::Watch,
    Kind::Silent,
];

/// An operation of a connection (or of an acceptor, in the place of a slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// To whom.
    pub conn: ConnId,
}

impl Op {
    /// An operation that is no connection's.
    pub fn of_engine(kind: Kind, index: usize) -> Op {
        Op { kind, conn: ConnId { slot: index as u32, generation: 0 } }
    }

    /// As the kernel carries it.
    pub fn user_data(self) -> u64 {
        debug_assert!((self.conn.slot as usize) < SLOTS_MAX);
        (self.kind as u64) << KIND_SHIFT
            | u64::from(self.conn.slot) << SLOT_SHIFT
            | u64::from(self.conn.generation)
    }

    /// And back. `None` for what is none of ours.
    pub fn from_user_data(data: u64) -> Option<Op> {
        let kind = *KINDS.get((data >> KIND_SHIFT) as usize)?;
        let slot = (data >> SLOT_SHIFT) as u32 & (SLOTS_MAX as u32 - 1);
        Some(Op { kind, conn: ConnId { slot, generation: data as u32 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_the_kernel() {
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
