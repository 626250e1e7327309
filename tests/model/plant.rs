//! Without planted bugs. The copy that the test `planted_bugs` makes has another file here.

/// This is the copy with the bugs.
pub const READY: bool = false;
/// The environment variable that selects one.
pub const VARIABLE: &str = "";
