//! Finds the end of a head, incrementally.

use super::rejection::Rejection;
use wide::u8x32;

/// Finds the end of a head. Examines each byte once, except for the last few of each fragment.
///
/// Use a new one for each request, starting after its [`leading_crlf`].
///
/// Strict about line ends (RFC 9112 section 2.2). Refuses a CR without LF, an LF without CR and a NUL
/// anywhere in the head: servers differ in whether they read these as a line end.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Bytes examined, none of which ends the head.
    seen: u32,
}

impl HeadScanner {
    /// Whether no byte was examined yet.
    pub(super) fn is_new(self) -> bool {
        self.seen == 0
    }

    /// Examines the bytes that have arrived since the last call.
    ///
    /// `buf` holds all of the request so far and starts at its request line. `Ok(Some(n))`: the
    /// head is `buf[..n]`, its final CRLF CRLF included. `Ok(None)`: more bytes are needed.
    ///
    /// The result depends only on the bytes, not on their fragmentation.
    ///
    /// # Errors
    /// - 400: a bare CR, a bare LF or a NUL.
    /// - 414: the request line alone is longer than `head_bytes_max` bytes (RFC 9110 section 15.5.15).
    /// - 431: the head is longer than that (RFC 6585 section 5).
    #[inline]
    pub fn advance(&mut self, buf: &[u8], head_bytes_max: usize) -> Result<Option<usize>, Rejection> {
        let bytes_max = head_bytes_max.min(u32::MAX as usize);
        let window = &buf[..buf.len().min(bytes_max)];
        match first_event(window, self.seen as usize) {
            Some(Event::End(len)) => Ok(Some(len)),
            Some(Event::Bad(error)) => Err(Rejection::bad(error)),
            None if window.len() < bytes_max => {
                self.seen = window.len() as u32;
                Ok(None)
            }
            None => Err(too_long(window)),
        }
    }
}

/// How many bytes of empty lines (CRLF) `buf` starts with: an even number.
///
/// A server should ignore at least one empty line before a request line (RFC 9112 section 2.2).
/// The caller limits how many one connection may send.
pub fn leading_crlf(buf: &[u8]) -> usize {
    let pairs = buf.chunks_exact(2).take_while(|pair| *pair == b"\r\n");
    2 * pairs.count()
}

/// A byte that ends the head or makes it invalid.
enum Event {
    /// The head is this many bytes long.
    End(usize),
    Bad(&'static str),
}

/// Bytes per step.
const BLOCK: usize = 32;
/// A block with the two bytes before it.
type Window = [u8; BLOCK + 2];

/// The first event at or after index `from`; the bytes before it have none.
#[inline]
fn first_event(buf: &[u8], from: usize) -> Option<Event> {
    let mut at = from;
    // The first two bytes have no two bytes before them.
    while at < 2 && at < buf.len() {
        if let Some(event) = event_at(buf, at) {
            return Some(event);
        }
        at += 1;
    }
    let mut rest = buf.get(at.wrapping_sub(2)..).unwrap_or_default();
    while let Some(window) = rest.first_chunk() {
        let events = events_in(window);
        if events.any() {
            return event_at(buf, at + events.to_bitmask().trailing_zeros() as usize);
        }
        rest = &rest[BLOCK..];
        at += BLOCK;
    }
    match buf.last_chunk() {
        // Overlaps bytes that were examined already; they still contain no event.
        Some(window) if at < buf.len() => {
            let events = events_in(window);
            if !events.any() {
                return None;
            }
            event_at(buf, buf.len() - BLOCK + events.to_bitmask().trailing_zeros() as usize)
        }
        _ => (at..buf.len()).find_map(|at| event_at(buf, at)),
    }
}

/// The bytes of the block that are events.
#[inline(always)]
fn events_in(window: &Window) -> u8x32 {
    let ([before_last @ .., _, _], [_, last @ .., _], [_, _, block @ ..]) = (window, window, window);
    let [lf, cr, nul] = [b'\n', b'\r', 0].map(u8x32::splat);
    let block = u8x32::new(*block);
    let lfs = block.simd_eq(lf);
    let after_cr = u8x32::new(*last).simd_eq(cr);
    let after_empty_line = u8x32::new(*before_last).simd_eq(lf);
    (lfs ^ after_cr) | (lfs & after_empty_line) | block.simd_eq(nul)
}

/// The event at one byte, given that the two bytes before it are not events.
#[inline]
fn event_at(buf: &[u8], at: usize) -> Option<Event> {
    let after_cr = at >= 1 && buf[at - 1] == b'\r';
    match buf[at] {
        0 => Some(Event::Bad("the request head contains a NUL")),
        b'\n' if !after_cr => Some(Event::Bad("a line of the request head ends in a bare LF")),
        // After LF CR, this LF ends an empty line, and with it the head.
        b'\n' if at >= 2 && buf[at - 2] == b'\n' => Some(Event::End(at + 1)),
        b'\n' => None,
        _ if after_cr => Some(Event::Bad("the request head contains a bare CR")),
        _ => None,
    }
}

#[cold]
fn too_long(window: &[u8]) -> Rejection {
    match memchr::memchr(b'\n', window) {
        Some(_) => Rejection::new(431, "the request head is too long"),
        None => Rejection::new(414, "the request line is too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 16 * 1024;

    fn one_shot(buf: &[u8], max: usize) -> Result<Option<usize>, u16> {
        HeadScanner::default().advance(buf, max).map_err(|r| r.status)
    }

    /// A naive scan, byte by byte.
    fn naive(buf: &[u8], max: usize) -> Result<Option<usize>, u16> {
        for (at, &byte) in buf.iter().enumerate().take(max) {
            let after_cr = at > 0 && buf[at - 1] == b'\r';
            if byte == 0 || (byte == b'\n') != after_cr {
                return Err(400);
            }
            if buf[..=at].ends_with(b"\r\n\r\n") {
                return Ok(Some(at + 1));
            }
        }
        if buf.len() < max {
            return Ok(None);
        }
        Err(if buf[..max].contains(&b'\n') { 431 } else { 414 })
    }

    #[test]
    fn finds_the_end_and_leaves_what_follows() {
        let head = b"GET /connect HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(one_shot(head, MAX), Ok(Some(head.len())));
        let mut more = head.to_vec();
        more.extend_from_slice(b"\0\n\r body bytes are not examined");
        assert_eq!(one_shot(&more, MAX), Ok(Some(head.len())));
    }

    #[test]
    fn refuses_bare_cr_bare_lf_and_nul_at_every_place() {
        let head = b"GET /warm-start HTTP/1.1\r\nHost: broker\r\nAccept: */*\r\n\r\n";
        for at in 0..head.len() - 4 {
            for bad in [b'\r', b'\n', 0] {
                let mut torn = head.to_vec();
                torn.insert(at, bad);
                // An added CR or LF may form another line end, but never the original head.
                let answer = one_shot(&torn, MAX);
                assert_eq!(answer, naive(&torn, MAX), "{bad} at {at}");
                assert_eq!(answer, Err(400), "{bad} at {at}");
            }
        }
    }

    #[test]
    fn a_trailing_cr_is_undecided() {
        assert_eq!(one_shot(b"GET / HTTP/1.1\r", MAX), Ok(None));
        assert_eq!(one_shot(b"\r", MAX), Ok(None));
        assert_eq!(one_shot(b"\n", MAX), Err(400));
        assert_eq!(one_shot(b"", MAX), Ok(None));
    }

    #[test]
    fn limits_are_exact() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(one_shot(head, head.len()), Ok(Some(head.len())));
        assert_eq!(one_shot(head, head.len() - 1), Err(431));
        assert_eq!(one_shot(&head[..20], 20), Err(431));
        assert_eq!(one_shot(&head[..19], 20), Ok(None));
        assert_eq!(one_shot(&head[..10], 10), Err(414));
        assert_eq!(one_shot(b"", 0), Err(414));
    }

    #[test]
    fn is_small_and_counts_leading_empty_lines() {
        assert!(size_of::<HeadScanner>() <= 8);
        assert_eq!(leading_crlf(b""), 0);
        assert_eq!(leading_crlf(b"\r"), 0);
        assert_eq!(leading_crlf(b"\r\n\r\nGET"), 4);
        assert_eq!(leading_crlf(b"\r\n\rX"), 2);
        assert_eq!(leading_crlf(b"\n\r\n"), 0);
    }

    /// Bytes with frequent line ends and NULs.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just(b"\r\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\0".to_vec()),
            1 => Just(b"\r\n\r\n".to_vec()),
            20 => prop::collection::vec(b' '..=b'~', 0..50),
            2 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_scan(buf in heads(), max in 0usize..400) {
            prop_assert_eq!(one_shot(&buf, max), naive(&buf, max));
        }

        #[test]
        fn fragments_do_not_matter(
            buf in heads(),
            max in 0usize..400,
            steps in prop::collection::vec(1usize..60, 1..40),
        ) {
            let whole = one_shot(&buf, max);
            let mut scanner = HeadScanner::default();
            let mut end = 0;
            let mut last = Ok(None);
            for step in steps.iter().cycle() {
                end = (end + step).min(buf.len());
                last = scanner.advance(&buf[..end], max).map_err(|r| r.status);
                if last != Ok(None) || end == buf.len() {
                    break;
                }
            }
            // Both scans have reached the limit, where 414 or 431 is decided.
            prop_assert_eq!(last, whole);
        }
    }
}
