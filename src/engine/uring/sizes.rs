//! How large an engine is.

/// How much of everything one worker gets.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Operations asked for between two enters; more cost an enter more.
    pub submissions: u32,
    /// Completions posted by one enter; more wait in the kernel.
    pub completions: u32,
    /// Receive buffers, a power of two. An enter that needs more ends receives, which begin anew in
    /// the next turn.
    pub buffers: u16,
    /// Holds an ordinary request whole.
    pub buffer_bytes: usize,
    /// From as many completions in a turn on responses are sent through the ring; in other turns at once.
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
