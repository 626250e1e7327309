//! Receive buffers, shared by all connections of a worker: the kernel takes one when bytes are there,
//! so that an idle connection owns none.

use super::ring::Ring;
use crate::broker::io::ConnId;
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes of `conn`, in a buffer.
pub struct Received {
    pub conn: ConnId,
    pub buffer: u16,
    pub len: usize,
}

/// The kernel wants the ring of entries at the start of a page.
const PAGE_BYTES: usize = 4096;

/// The buffers and the ring of entries through which they are given to the kernel.
pub struct Buffers {
    /// The entries, then the buffers.
    memory: NonNull<u8>,
    mapped_bytes: usize,
    entries_bytes: usize,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

// SAFETY: the memory is owned, and touched only through `&self` and `&mut self` (and by the kernel,
// which does not mind the thread).
unsafe impl Send for Buffers {}

impl Buffers {
    /// `count` (a power of two) buffers of `buffer_bytes`, all of them the kernel's to fill. They
    /// must be dropped after the ring.
    pub fn register(ring: &Ring, count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        let entries_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let mapped_bytes = entries_bytes + usize::from(count) * buffer_bytes;
        // SAFETY: a new mapping, which nothing else refers to. A buffer takes up memory once it is used.
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
        // SAFETY: the memory lives until the drop, which comes after the ring's.
        unsafe { ring.register_buffers(memory.as_ptr() as u64, count)? };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The first `len` bytes of a buffer that the kernel has filled and that was not given back yet.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names its buffers");
        // SAFETY: inside the mapping, initialized (zero at first), and the kernel's again only
        // after `give_back`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.buffer(id), len) }
    }

    /// Gives a buffer to the kernel.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names its buffers");
        let entries: *mut BufRingEntry = self.memory.as_ptr().cast();
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is within the entries, and this one is not the kernel's before the tail has
        // passed it, which the release store orders. The tail lies in a field of the first entry that
        // the setters leave alone.
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
        // SAFETY: `id` is below `count`, as both callers have made sure.
        unsafe { self.memory.as_ptr().add(self.entries_bytes + usize::from(id) * self.buffer_bytes) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; the ring, and with it the kernel's use, has ended.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.mapped_bytes) };
    }
}
