//! Buffers of runs that are over, kept for the next ones: they are in the caches still, and the allocator need not
//! look for a place of their size.

use super::io::Payload;
use std::sync::Arc;

/// So many are kept...
const BUFFERS_MAX: usize = 64;
/// ... each of up to so many bytes: most runs are shorter, and a large one must not stay for ever.
const BUFFER_BYTES_MAX: usize = 4096;

/// One core's spare buffers. The last one given is the next one taken.
#[derive(Default)]
pub struct BufferPool(Vec<Arc<Vec<u8>>>);

impl BufferPool {
    /// What `write` puts into an empty buffer.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Payload {
        let mut buffer = self.0.pop().unwrap_or_default();
        match Arc::get_mut(&mut buffer) {
            Some(bytes) => write(bytes),
            None => debug_assert!(false, "a spare buffer has no other owner"),
        }
        Payload::Shared(buffer)
    }

    /// One owner less; the last one's is kept.
    pub fn give(&mut self, payload: Payload) {
        let Payload::Shared(mut buffer) = payload else { return };
        if let Some(bytes) = Arc::get_mut(&mut buffer)
            && bytes.capacity() <= BUFFER_BYTES_MAX
            && self.0.len() < BUFFERS_MAX
        {
            bytes.clear();
            self.0.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(payload: &Payload) -> *const u8 {
        payload.bytes().as_ptr()
    }

    #[test]
    fn a_buffer_serves_again_when_its_last_owner_gives_it() {
        let mut buffer_pool = BufferPool::default();
        let first = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"first"));
        let (held, at) = (first.clone(), address(&first));
        buffer_pool.give(first);
        let other = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"other"));
        assert_ne!(address(&other), at, "somebody reads the first still");
        assert_eq!(held.bytes(), b"first");
        buffer_pool.give(held);
        let again = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"new"));
        assert_eq!((address(&again), again.bytes()), (at, b"new".as_slice()));
    }

    #[test]
    fn neither_large_ones_nor_too_many_are_kept() {
        let mut buffer_pool = BufferPool::default();
        let large = buffer_pool.fill(|buffer| buffer.resize(BUFFER_BYTES_MAX + 1, 0));
        buffer_pool.give(large);
        assert!(buffer_pool.0.is_empty());
        let many: Vec<_> = (0..=BUFFERS_MAX).map(|_| buffer_pool.fill(|buffer| buffer.push(1))).collect();
        many.into_iter().for_each(|payload| buffer_pool.give(payload));
        assert_eq!(buffer_pool.0.len(), BUFFERS_MAX);
    }
}
