//! One response that the engine is sending.

use crate::broker::io::{Payload, SendConfirm};
use crate::engine::ack_timestamps::AckTimestamps;
use crate::sys::calls;
use crate::sys::tcp::send_timestamped;
use mio::net::TcpStream;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsFd;

/// The bytes that the kernel has not taken yet.
pub struct Outgoing {
    payload: Payload,
    offset: usize,
    confirm: SendConfirm,
    /// The engine polls for the acknowledgement instead of having the kernel announce it.
    checked: bool,
    /// It is the connection's first response.
    is_first: bool,
    /// Single bytes to send ahead of the rest; see [`AckTimestamps::begin`].
    lead_bytes: u8,
}

/// How far a write got.
pub enum Progress {
    /// The kernel has taken all of it.
    Done,
    /// The socket's buffer is full.
    Blocked,
}

impl Outgoing {
    /// A response of which nothing is sent yet. If `checked`, the engine polls for its acknowledgement.
    pub fn new(payload: Payload, confirm: SendConfirm, checked: bool, is_first: bool) -> Outgoing {
        Outgoing { payload, offset: 0, confirm, checked, is_first, lead_bytes: 0 }
    }

    /// The number of bytes that the kernel has not taken.
    pub fn remaining(&self) -> usize {
        self.payload.bytes().len() - self.offset
    }

    /// Writes until the kernel has taken everything or the socket's buffer is full.
    pub fn write(&mut self, stream: &TcpStream, timestamps: &mut AckTimestamps) -> io::Result<Progress> {
        if self.confirm == SendConfirm::Acked && self.offset == 0 {
            self.begin(stream, timestamps)?;
        }
        while self.remaining() > 0 {
            let rest = &self.payload.bytes()[self.offset..];
            let (attempted, result) = match self.confirm {
                _ if self.lead_bytes > 0 => (1, calls::transmit(stream, &rest[..1])),
                SendConfirm::Acked if !self.checked => (rest.len(), send_timestamped(stream.as_fd(), rest)),
                SendConfirm::Closed => (rest.len(), calls::transmit_held(stream, rest)),
                SendConfirm::Acked | SendConfirm::None => (rest.len(), calls::transmit(stream, rest)),
            };
            match result {
                Ok(count) => {
                    self.offset += count;
                    self.lead_bytes = self.lead_bytes.saturating_sub(1);
                    timestamps.count(count);
                    if count < attempted {
                        return Ok(Progress::Blocked);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.confirm == SendConfirm::Closed {
            // It fails only on a connection whose end the engine reports anyway.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(Progress::Done)
    }

    fn begin(&mut self, stream: &TcpStream, timestamps: &mut AckTimestamps) -> io::Result<()> {
        let len = self.payload.bytes().len();
        self.lead_bytes = timestamps.begin(stream.as_fd(), len, self.checked, self.is_first)?;
        Ok(())
    }
}
