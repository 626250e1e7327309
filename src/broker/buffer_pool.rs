//! Reuses the buffers of finished runs. They are still in the CPU's caches, and the allocator does not have
//! to find a block of that size.

use super::io::Payload;
use std::sync::Arc;

/// More sends than this are rarely in progress in one turn.
const BUFFERS_MAX: usize = 64;
/// Most runs are shorter. Larger buffers are freed.
const BUFFER_BYTES_MAX: usize = 4096;

/// The spare buffers of one worker, used last in, first out.
#[derive(Default)]
pub struct BufferPool(Vec<Arc<Vec<u8>>>);

impl BufferPool {
    /// Passes an empty buffer to `write`, and returns it as a payload.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Payload {
        let mut buffer = self.0.pop().unwrap_or_default();
        match Arc::get_mut(&mut buffer) {
            Some(bytes) => write(bytes),
            None => debug_assert!(false, "a spare buffer has no other owner"),
        }
        Payload::Shared(buffer)
    }

    /// Drops `payload`. Keeps the buffer for reuse if no other owner is left.
    pub fn recycle(&mut self, payload: Payload) {
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
    fn a_buffer_is_reused_after_its_last_owner_recycled_it() {
        let mut buffer_pool = BufferPool::default();
        let first = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"first"));
        let (held, at) = (first.clone(), address(&first));
        buffer_pool.recycle(first);
        let other = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"other"));
        assert_ne!(address(&other), at, "the first buffer is still in use");
        assert_eq!(held.bytes(), b"first");
        buffer_pool.recycle(held);
        let again = buffer_pool.fill(|buffer| buffer.extend_from_slice(b"new"));
        assert_eq!((address(&again), again.bytes()), (at, b"new".as_slice()));
    }

    #[test]
    fn keeps_neither_large_nor_too_many_buffers() {
        let mut buffer_pool = BufferPool::default();
        let large = buffer_pool.fill(|buffer| buffer.resize(BUFFER_BYTES_MAX + 1, 0));
        buffer_pool.recycle(large);
        assert!(buffer_pool.0.is_empty());
        let many: Vec<_> = (0..=BUFFERS_MAX).map(|_| buffer_pool.fill(|buffer| buffer.push(1))).collect();
        many.into_iter().for_each(|payload| buffer_pool.recycle(payload));
        assert_eq!(buffer_pool.0.len(), BUFFERS_MAX);
    }
}
