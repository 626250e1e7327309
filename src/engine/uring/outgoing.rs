//! One response that the engine is sending.

use super::messages::SendMessage;
use super::stable::Stable;
use crate::broker::io::Payload;

/// The bytes that the kernel has not taken yet. It owns them until the last of its operations has ended.
pub struct Outgoing {
    payload: Payload,
    offset: usize,
    /// The number of its operations whose completion is still to come.
    pub under_way: u8,
    /// One of them failed, and the kernel cancelled those after it.
    pub failed: bool,
    pub mode: SendMode,
}

/// How a response goes to the kernel.
pub enum SendMode {
    /// By an ordinary send.
    Plain,
    /// A FIN goes with its last byte.
    Last,
    /// With a timestamp, so that the kernel announces its acknowledgement.
    Timestamped(Stable<SendMessage>),
    /// With a check for its acknowledgement after the send.
    Checked,
}

impl Outgoing {
    /// A response of which nothing is sent yet.
    pub fn new(payload: Payload, mode: SendMode) -> Outgoing {
        Outgoing { payload, offset: 0, under_way: 0, failed: false, mode }
    }

    /// The bytes that the kernel has not taken.
    pub fn rest(&self) -> &[u8] {
        &self.payload.bytes()[self.offset..]
    }

    /// Skips `count` bytes that the kernel has taken.
    pub fn advance(&mut self, count: usize) {
        self.offset += count;
    }
}
