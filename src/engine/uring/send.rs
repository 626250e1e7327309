//! A response on its way out, and the messages that the kernel reads and writes meanwhile.

use super::stable::Stable;
use crate::broker::io::Payload;
use crate::sys::tcp::{self, ErrorControl, ErrorQueue};

/// What the kernel has not taken yet. It owns the bytes until the last of its operations has ended.
pub struct Outgoing {
    payload: Payload,
    offset: usize,
    /// Operations of it whose completion is still to come.
    pub under_way: u8,
    /// One of them failed; what follows it was cancelled with it.
    pub failed: bool,
    /// How the rest goes.
    pub way: Way,
}

/// How a response goes to the kernel.
pub enum Way {
    /// Its bytes alone.
    Plain,
    /// Our FIN goes with its last byte.
    Last,
    /// Its acknowledgement is to be announced.
    Stamped(Stable<Message>),
    /// Its acknowledgement is looked for behind this send.
    LookedFor,
}

impl Outgoing {
    /// A response of which nothing is sent yet.
    pub fn new(payload: Payload, way: Way) -> Outgoing {
        Outgoing { payload, offset: 0, under_way: 0, failed: false, way }
    }

    /// The bytes that the kernel has not taken.
    pub fn rest(&self) -> &[u8] {
        &self.payload.bytes()[self.offset..]
    }

    /// The kernel took `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.offset += count;
    }
}

/// A stamped message and its one part.
pub struct Message {
    part: libc::iovec,
    header: libc::msghdr,
}

// SAFETY: plain data; the addresses in it are only ever used by the kernel.
unsafe impl Send for Message {}

impl Message {
    /// Without content.
    pub fn new() -> Message {
        let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Message { part, header: tcp::stamped_message(&mut part) }
    }
}

impl Stable<Message> {
    /// The message that sends `bytes`.
    pub fn of(&self, bytes: &[u8]) -> *const libc::msghdr {
        let message = self.as_ptr();
        // SAFETY: valid, and not the kernel's: a response has one message under way at most.
        unsafe {
            (*message).part =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            (*message).header = tcp::stamped_message(&mut (*message).part);
            &raw const (*message).header
        }
    }
}

/// A message of the error queue, and room for what it says.
pub struct Errors {
    control: ErrorControl,
    header: libc::msghdr,
}

// SAFETY: plain data; the addresses in it are only ever used by the kernel.
unsafe impl Send for Errors {}

impl Errors {
    /// Without content.
    pub fn new() -> Errors {
        let mut control = ErrorControl::default();
        let header = control.message();
        Errors { control, header }
    }
}

impl Stable<Errors> {
    /// The message to receive into.
    pub fn prepare(&self) -> *mut libc::msghdr {
        let errors = self.as_ptr();
        // SAFETY: valid, and not the kernel's: it is prepared before each operation only.
        unsafe {
            (*errors).header = (*errors).control.message();
            &raw mut (*errors).header
        }
    }

    /// What was received.
    pub fn read(&self) -> ErrorQueue {
        let errors = self.as_ptr();
        // SAFETY: valid, and not the kernel's any more: read after the completion only.
        unsafe { (*errors).control.read(&(*errors).header) }
    }
}
