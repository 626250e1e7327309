//! What an application adds to the reading of request heads.

/// An application's view of request heads. `Head` is generic over it, so the one-pass reader calls it
/// without indirection.
pub trait Application<'b>: Default {
    /// The target of most requests, a valid path. A head with exactly this target skips the checks of
    /// the target's characters.
    const USUAL_TARGET: &'static str;

    /// Called with each field that HTTP/1.1 itself does not interpret here, in order. `value` has no
    /// white space around it.
    fn take_field(&mut self, name: &[u8], value: &'b [u8]);
}
