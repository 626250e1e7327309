//! One response on its way out, and the stamps that report its acknowledgement.

use crate::broker::io::{Payload, SendConfirm};
use crate::sys::tcp;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

/// What the kernel has not taken yet.
pub struct Outgoing {
    payload: Payload,
    offset: usize,
    stamped: bool,
    /// Plain bytes to send ahead of the stamped rest, one segment each; see [`plain_pieces`].
    pieces: u8,
}

/// How far a write got.
pub enum Progress {
    /// The kernel has it all.
    Done,
    /// The socket's buffer is full.
    Blocked,
}

/// A connection whose acknowledgements are reported.
pub struct Stamps {
    /// Bytes sent since stamping began, modulo 2^32: the kernel's own count (OPT_ID_TCP).
    sent: u32,
    segment_bytes: usize,
    /// The index of the last byte of the response whose acknowledgement is awaited.
    pub awaited: Option<u32>,
}

impl Outgoing {
    /// A response of which nothing is sent yet.
    pub fn new(payload: Payload, confirm: SendConfirm) -> Outgoing {
        Outgoing { payload, offset: 0, stamped: confirm == SendConfirm::Acked, pieces: 0 }
    }

    /// Bytes that the kernel has not taken.
    pub fn remaining(&self) -> usize {
        self.payload.bytes().len() - self.offset
    }

    /// Writes until all is taken or the socket's buffer is full.
    pub fn write(&mut self, stream: &TcpStream, stamps: &mut Option<Box<Stamps>>) -> io::Result<Progress> {
        if self.stamped && self.offset == 0 {
            self.begin_stamped(stream, stamps)?;
        }
        while self.remaining() > 0 {
            let rest = &self.payload.bytes()[self.offset..];
            let (attempted, result) = if self.pieces > 0 {
                (1, (&*stream).write(&rest[..1]))
            } else if self.stamped {
                (rest.len(), tcp::send_stamped(stream.as_fd(), rest))
            } else {
                (rest.len(), (&*stream).write(rest))
            };
            match result {
                Ok(count) => {
                    self.offset += count;
                    self.pieces = self.pieces.saturating_sub(1);
                    if let Some(stamps) = stamps {
                        stamps.sent = stamps.sent.wrapping_add(count as u32);
                    }
                    if count < attempted {
                        return Ok(Progress::Blocked);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }

    fn begin_stamped(&mut self, stream: &TcpStream, stamps: &mut Option<Box<Stamps>>) -> io::Result<()> {
        let stamps = match stamps {
            Some(stamps) => stamps,
            None => {
                tcp::enable_ack_stamps(stream.as_fd())?;
                let segment_bytes = tcp::segment_bytes(stream.as_fd())?;
                stamps.insert(Box::new(Stamps { sent: 0, segment_bytes, awaited: None }))
            }
        };
        let len = self.payload.bytes().len();
        self.pieces = plain_pieces(len, stamps.segment_bytes);
        stamps.awaited = Some(stamps.sent.wrapping_add(len as u32).wrapping_sub(1));
        Ok(())
    }
}

/// How many single bytes to send ahead so that a response of `len` bytes makes an even number of
/// segments: a Linux receiver acknowledges every second segment at once, and a lone one only after
/// 40 ms when the connection has carried a response before.
fn plain_pieces(len: usize, segment_bytes: usize) -> u8 {
    let segments = |len: usize| len.div_ceil(segment_bytes);
    (0..3u8)
        .find(|&pieces| {
            let rest = len.saturating_sub(pieces as usize);
            (pieces as usize + segments(rest)).is_multiple_of(2)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_makes_pairs_of_segments() {
        for segment_bytes in [48, 88, 524, 536, 1448] {
            for len in 2..6_000 {
                let pieces = plain_pieces(len, segment_bytes) as usize;
                let segments = pieces + (len - pieces).div_ceil(segment_bytes);
                assert!(pieces <= 2 && segments.is_multiple_of(2), "{len} of {segment_bytes}: {pieces}");
            }
        }
    }
}
