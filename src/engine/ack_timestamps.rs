//! Acknowledgement timestamps of one connection: which one the engine awaits, and how it splits a response so that
//! the peer acknowledges it immediately. Both engines use these rules.

use crate::sys::tcp;
use std::io;
use std::os::fd::BorrowedFd;

/// A peer acknowledges this much of a connection's first response immediately, however it is split. A Linux receiver
/// acknowledges each of the first 16 segments or fewer (TCP_MAX_QUICKACKS, net/ipv4/tcp_input.c). This is half of 16
/// segments of the size that every host accepts: 536 bytes (RFC 9293 section 3.7.1), less 12 for timestamps.
const FIRST_BYTES_MAX: usize = 8 * 524;

/// The state of a connection's acknowledgements. With epoll it is part of the connection's own entry. A separate
/// allocation would add a cache miss when a connection was idle for long.
#[derive(Default)]
pub struct AckTimestamps {
    /// Bytes sent since the kernel began to count them (OPT_ID_TCP), modulo 2^32; `None` before.
    sent: Option<u32>,
    /// Zero before the engine has asked the kernel.
    segment_bytes: u16,
    /// The index of the last byte of the response whose announced acknowledgement the engine awaits.
    pub awaited: Option<u32>,
}

impl AckTimestamps {
    /// Prepares a response of `len` bytes whose acknowledgement the engine must report. If `checked`, the engine
    /// polls for it. If `is_first`, the connection has carried no response before. Returns how many single bytes
    /// to send ahead of the rest; see [`lead_bytes`].
    pub fn begin(&mut self, fd: BorrowedFd<'_>, len: usize, checked: bool, is_first: bool) -> io::Result<u8> {
        self.awaited = if checked { None } else { Some(self.last_index(fd, len)?) };
        self.lead_bytes(fd, len, is_first)
    }

    /// The index of the last of the next `len` bytes.
    fn last_index(&mut self, fd: BorrowedFd<'_>, len: usize) -> io::Result<u32> {
        let sent = match self.sent {
            Some(sent) => sent,
            None => {
                tcp::enable_ack_timestamps(fd)?;
                *self.sent.insert(0)
            }
        };
        Ok(sent.wrapping_add(len as u32).wrapping_sub(1))
    }

    fn lead_bytes(&mut self, fd: BorrowedFd<'_>, len: usize, is_first: bool) -> io::Result<u8> {
        if is_first && len <= FIRST_BYTES_MAX {
            return Ok(0);
        }
        if self.segment_bytes == 0 {
            self.segment_bytes = u16::try_from(tcp::segment_bytes(fd)?).unwrap_or(u16::MAX).max(1);
        }
        Ok(lead_bytes(len, self.segment_bytes.into()))
    }

    /// Whether the error queue may hold announcements that the engine has not read.
    pub fn are_announced(&self) -> bool {
        self.sent.is_some()
    }

    /// Counts `count` more bytes that the kernel has taken.
    pub fn count(&mut self, count: usize) {
        if let Some(sent) = &mut self.sent {
            *sent = sent.wrapping_add(count as u32);
        }
    }
}

/// How many single bytes to send ahead, one per segment, so that a response of `len` bytes takes an even number of
/// segments. A Linux receiver acknowledges every second segment immediately. It acknowledges a lone segment only
/// after 40 ms if the connection has carried a response before.
fn lead_bytes(len: usize, segment_bytes: usize) -> u8 {
    let segments = |len: usize| len.div_ceil(segment_bytes);
    (0..3u8)
        .filter(|&lead| usize::from(lead) < len)
        .find(|&lead| (usize::from(lead) + segments(len - usize::from(lead))).is_multiple_of(2))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_makes_pairs_of_segments() {
        assert_eq!(lead_bytes(0, 536), 0);
        assert_eq!(lead_bytes(1, 536), 0, "the last byte carries the timestamp");
        for segment_bytes in [48, 88, 524, 536, 1448] {
            for len in 2..6_000 {
                let lead = lead_bytes(len, segment_bytes) as usize;
                let segments = lead + (len - lead).div_ceil(segment_bytes);
                assert!(lead <= 2 && segments.is_multiple_of(2), "{len} of {segment_bytes}: {lead}");
            }
        }
    }
}
