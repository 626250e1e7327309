//! Memory that stays where it is while the kernel holds its address.

use std::ptr::NonNull;

/// A value on the heap that is reached by raw pointers only, so that moving its owner says nothing
/// about who else may look at it (a `Box` would claim that nobody does).
pub struct Stable<T>(NonNull<T>);

// SAFETY: owns its value, like a box.
unsafe impl<T: Send> Send for Stable<T> {}

impl<T> Stable<T> {
    pub fn new(value: T) -> Self {
        Stable(NonNull::from(Box::leak(Box::new(value))))
    }

    /// Valid as long as `self` is.
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, and dropped once. Its holders drop it after the kernel's last use.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Values that are used again and again.
pub struct Pool<T>(Vec<Stable<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Vec::new())
    }
}

/// What is kept for the next use; a burst's remainder goes back to the heap.
const KEPT_MAX: usize = 1024;

impl<T> Pool<T> {
    /// One that is free, or what `new` makes.
    pub fn take(&mut self, new: impl FnOnce() -> T) -> Stable<T> {
        self.0.pop().unwrap_or_else(|| Stable::new(new()))
    }

    /// One that the kernel has done with.
    pub fn give_back(&mut self, value: Stable<T>) {
        if self.0.len() < KEPT_MAX {
            self.0.push(value);
        }
    }
}
