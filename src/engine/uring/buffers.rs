//! Receive buffers, shared by all connections of a worker. The kernel takes one when bytes arrive, so an idle
//! connection owns none.

use super::ring::Ring;
use crate::broker::io::ConnId;
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first `len` bytes of a buffer, which came from `conn`.
pub struct Received {
    pub conn: ConnId,
    pub buffer: u16,
    pub len: usize,
}

/// The kernel requires the ring of entries to begin at a page.
const PAGE_BYTES: usize = 4096;

/// The buffers, and the ring of entries through which the engine gives them to the kernel.
pub struct Buffers {
    /// The entries, then the buffers.
    memory: NonNull<u8>,
    mapped_bytes: usize,
    entries_bytes: usize,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

// SAFETY: the memory is owned and accessed only through `&self` and `&mut self`, and by the kernel, which does not
// depend on the thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Gives the kernel `count` buffers (a power of two) of `buffer_bytes` each. Drop them after the ring.
    pub fn register(ring: &Ring, count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        let entries_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let mapped_bytes = entries_bytes + usize::from(count) * buffer_bytes;
        // SAFETY: a new mapping, which nothing else refers to. A buffer takes memory only once the kernel fills it.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut buffers = Buffers { memory, mapped_bytes, entries_bytes, count, buffer_bytes, tail: 0 };
        // SAFETY: the memory lives until the drop, which comes after the ring's drop.
        unsafe { ring.register_buffers(memory.as_ptr() as u64, count)? };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    pub fn count(&self) -> u16 {
        self.count
    }

    /// The first `len` bytes of a buffer that the kernel has filled and the engine has not given back.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names a registered buffer");
        // SAFETY: inside the mapping and initialized (zero at first). The kernel writes to it only after `give_back`,
        // which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.buffer(id), len) }
    }

    /// Gives a buffer to the kernel.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names a registered buffer");
        let entries: *mut BufRingEntry = self.memory.as_ptr().cast();
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is within the entries, and the kernel does not read this one before the tail has passed it,
        // which the release store orders. The tail lies in a field of the first entry that the setters do not write.
        unsafe {
            let entry = &mut *entries.add(slot);
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        // SAFETY: `id` is below `count`, as both callers assert.
        unsafe { self.memory.as_ptr().add(self.entries_bytes + usize::from(id) * self.buffer_bytes) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; the ring has ended, and the kernel's use with it.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.mapped_bytes) };
    }
}
