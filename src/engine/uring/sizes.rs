//! The sizes of an engine's queues and buffers.

/// The sizes of one worker's engine.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Operations between two enters; more cost an additional enter.
    pub submissions: u32,
    /// Completions that one enter posts; more wait in the kernel.
    pub completions: u32,
    /// Receive buffers, a power of two. An enter that needs more ends receives, which the engine arms again in the
    /// next turn.
    pub buffers: u16,
    /// Enough for an ordinary request.
    pub buffer_bytes: usize,
    /// In a turn with this many completions or more, responses go through the ring; in other turns, each takes its
    /// own system call.
    pub ring_from_completions: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            submissions: 1024,
            completions: 16 * 1024,
            buffers: 256,
            buffer_bytes: 4096,
            ring_from_completions: 8,
        }
    }
}
