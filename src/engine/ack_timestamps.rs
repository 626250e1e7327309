//! Acknowledgement stamps of one connection: what is awaited, and how a response must be cut so that
//! its acknowledgement comes at once. Both engines send by these rules.

use crate::sys::tcp;
use std::io;
use std::os::fd::BorrowedFd;

/// So much of a connection's first response is acknowledged at once, however it is cut: a Linux receiver acknowledges
/// each of the first segments that it gets, up to 16 (TCP_MAX_QUICKACKS, net/ipv4/tcp_input.c). Here half of them, of
/// the size that every host takes: 536 bytes (RFC 9293 section 3.7.1), 12 of them for timestamps.
const FIRST_BYTES_MAX: usize = 8 * 524;

/// What is known of a connection's acknowledgements. Small enough to stand in the connection's own entry, as on epoll: an
/// allocation of its own would be one more miss for a connection that nobody has used for long.
#[derive(Default)]
pub struct AckTimestamps {
    /// Bytes sent since the kernel began to count them (OPT_ID_TCP), modulo 2^32; `None` before.
    sent: Option<u32>,
    /// Zero: not asked for yet.
    segment_bytes: u16,
    /// The index of the last byte of the response whose acknowledgement is awaited.
    pub awaited: Option<u32>,
}

impl AckTimestamps {
    /// A response of `len` bytes is next, the connection's first or not. Its acknowledgement is to be reported, unless
    /// it is looked for. Answers how many plain bytes to send ahead of the rest, one segment each; see [`plain_pieces`].
    pub fn begin(&mut self, fd: BorrowedFd<'_>, len: usize, checked: bool, is_first: bool) -> io::Result<u8> {
        self.awaited = if checked { None } else { Some(self.last_index(fd, len)?) };
        self.pieces(fd, len, is_first)
    }

    /// The index of the last of the `len` bytes that are next.
    fn last_index(&mut self, fd: BorrowedFd<'_>, len: usize) -> io::Result<u32> {
        let sent = match self.sent {
            Some(sent) => sent,
            None => {
                tcp::enable_ack_stamps(fd)?;
                *self.sent.insert(0)
            }
        };
        Ok(sent.wrapping_add(len as u32).wrapping_sub(1))
    }

    fn pieces(&mut self, fd: BorrowedFd<'_>, len: usize, is_first: bool) -> io::Result<u8> {
        if is_first && len <= FIRST_BYTES_MAX {
            return Ok(0);
        }
        if self.segment_bytes == 0 {
            self.segment_bytes = u16::try_from(tcp::segment_bytes(fd)?).unwrap_or(u16::MAX).max(1);
        }
        Ok(plain_pieces(len, self.segment_bytes.into()))
    }

    /// Something has been announced, perhaps, that nobody has read yet.
    pub fn are_announced(&self) -> bool {
        self.sent.is_some()
    }

    /// The kernel took `count` bytes more.
    pub fn count(&mut self, count: usize) {
        if let Some(sent) = &mut self.sent {
            *sent = sent.wrapping_add(count as u32);
        }
    }
}

/// How many single bytes to send ahead so that a response of `len` bytes makes an even number of
/// segments: a Linux receiver acknowledges every second segment at once, and a lone one only after
/// 40 ms when the connection has carried a response before.
fn plain_pieces(len: usize, segment_bytes: usize) -> u8 {
    let segments = |len: usize| len.div_ceil(segment_bytes);
    (0..3u8)
        .filter(|&pieces| usize::from(pieces) < len)
        .find(|&pieces| (usize::from(pieces) + segments(len - usize::from(pieces))).is_multiple_of(2))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_makes_pairs_of_segments() {
        assert_eq!(plain_pieces(0, 536), 0);
        assert_eq!(plain_pieces(1, 536), 0, "the last byte is the stamped one");
        for segment_bytes in [48, 88, 524, 536, 1448] {
            for len in 2..6_000 {
                let pieces = plain_pieces(len, segment_bytes) as usize;
                let segments = pieces + (len - pieces).div_ceil(segment_bytes);
                assert!(pieces <= 2 && segments.is_multiple_of(2), "{len} of {segment_bytes}: {pieces}");
            }
        }
    }
}
