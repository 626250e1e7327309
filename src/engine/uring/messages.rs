//! Messages that the kernel reads and writes while an operation is under way.

use super::stable::Stable;
use crate::sys::tcp::{self, ErrorControl, ErrorQueue};

/// A message of one part with an acknowledgement timestamp.
pub struct SendMessage {
    part: libc::iovec,
    header: libc::msghdr,
}

// SAFETY: plain data; only the kernel ever uses the addresses in it.
unsafe impl Send for SendMessage {}

impl SendMessage {
    pub fn new() -> SendMessage {
        let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        SendMessage { part, header: tcp::timestamped_message(&mut part) }
    }
}

impl Stable<SendMessage> {
    /// The message that sends `bytes`.
    pub fn of(&self, bytes: &[u8]) -> *const libc::msghdr {
        let message = self.as_ptr();
        // SAFETY: valid, and the kernel does not use it: a response has at most one message under way.
        unsafe {
            (*message).part =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            (*message).header = tcp::timestamped_message(&mut (*message).part);
            &raw const (*message).header
        }
    }
}

/// A message of the error queue, and room for its content.
pub struct ErrorMessage {
    control: ErrorControl,
    header: libc::msghdr,
}

// SAFETY: plain data; only the kernel ever uses the addresses in it.
unsafe impl Send for ErrorMessage {}

impl ErrorMessage {
    pub fn new() -> ErrorMessage {
        let mut control = ErrorControl::default();
        let header = control.message();
        ErrorMessage { control, header }
    }
}

impl Stable<ErrorMessage> {
    /// The message to receive into.
    pub fn prepare(&self) -> *mut libc::msghdr {
        let errors = self.as_ptr();
        // SAFETY: valid, and the kernel does not use it: the engine prepares it before each operation only.
        unsafe {
            (*errors).header = (*errors).control.message();
            &raw mut (*errors).header
        }
    }

    /// What the kernel has written.
    pub fn read(&self) -> ErrorQueue {
        let errors = self.as_ptr();
        // SAFETY: valid, and the kernel no longer uses it: the engine reads it after the completion only.
        unsafe { (*errors).control.read(&(*errors).header) }
    }
}
