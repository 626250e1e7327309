//! Memory that does not move while the kernel holds its address.

use std::ptr::NonNull;

/// A value on the heap that its owner reaches through raw pointers only. A `Box` that moves asserts that nothing else
/// accesses its value; here the kernel does.
pub struct Stable<T>(NonNull<T>);

// SAFETY: it owns its value, like a box.
unsafe impl<T: Send> Send for Stable<T> {}

impl<T> Stable<T> {
    pub fn new(value: T) -> Self {
        Stable(NonNull::from(Box::leak(Box::new(value))))
    }

    /// Valid as long as `self`.
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: it comes from a box, and is dropped once. Its owners drop it after the kernel's last use.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Values that the engine reuses.
pub struct Pool<T>(Vec<Stable<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Vec::new())
    }
}

/// How many values a pool keeps; what a burst leaves beyond that goes back to the heap.
const KEPT_MAX: usize = 1024;

impl<T> Pool<T> {
    /// A free value, or the result of `new`.
    pub fn take(&mut self, new: impl FnOnce() -> T) -> Stable<T> {
        self.0.pop().unwrap_or_else(|| Stable::new(new()))
    }

    /// Takes back a value that the kernel no longer uses.
    pub fn give_back(&mut self, value: Stable<T>) {
        if self.0.len() < KEPT_MAX {
            self.0.push(value);
        }
    }
}
