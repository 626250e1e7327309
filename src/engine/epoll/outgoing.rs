//! One response on its way out.

use crate::broker::io::{Payload, SendConfirm};
use crate::engine::ack_timestamps::AckTimestamps;
use crate::sys::{calls, tcp};
use mio::net::TcpStream;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsFd;

/// What the kernel has not taken yet.
pub struct Outgoing {
    payload: Payload,
    offset: usize,
    confirm: SendConfirm,
    /// The acknowledgement is looked for, not announced.
    watched: bool,
    /// It is the connection's first.
    is_first: bool,
    /// Plain bytes to send ahead of the rest, one segment each; see [`AckTimestamps::begin`].
    pieces: u8,
}

/// How far a write got.
pub enum Progress {
    /// The kernel has it all.
    Done,
    /// The socket's buffer is full.
    Blocked,
}

impl Outgoing {
    /// A response of which nothing is sent yet; `watched`: its acknowledgement is looked for.
    pub fn new(payload: Payload, confirm: SendConfirm, watched: bool, is_first: bool) -> Outgoing {
        Outgoing { payload, offset: 0, confirm, watched, is_first, pieces: 0 }
    }

    /// Bytes that the kernel has not taken.
    pub fn remaining(&self) -> usize {
        self.payload.bytes().len() - self.offset
    }

    /// Writes until all is taken or the socket's buffer is full.
    pub fn write(&mut self, stream: &TcpStream, stamps: &mut AckTimestamps) -> io::Result<Progress> {
        if self.confirm == SendConfirm::Acked && self.offset == 0 {
            self.begin(stream, stamps)?;
        }
        while self.remaining() > 0 {
            let rest = &self.payload.bytes()[self.offset..];
            let (attempted, result) = match self.confirm {
                _ if self.pieces > 0 => (1, calls::transmit(stream, &rest[..1])),
                SendConfirm::Acked if !self.watched => (rest.len(), tcp::send_stamped(stream.as_fd(), rest)),
                SendConfirm::Closed => (rest.len(), calls::transmit_held(stream, rest)),
                SendConfirm::Acked | SendConfirm::None => (rest.len(), calls::transmit(stream, rest)),
            };
            match result {
                Ok(count) => {
                    self.offset += count;
                    self.pieces = self.pieces.saturating_sub(1);
                    stamps.count(count);
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
            // A connection that is gone already will say so itself.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(Progress::Done)
    }

    fn begin(&mut self, stream: &TcpStream, stamps: &mut AckTimestamps) -> io::Result<()> {
        let len = self.payload.bytes().len();
        self.pieces = stamps.begin(stream.as_fd(), len, self.watched, self.is_first)?;
        Ok(())
    }
}
