//! No bug is planted here; the copy that the test `teeth` makes has another file in this place.

/// The bugs are written into this copy.
pub const READY: bool = false;
/// The environment variable that plants one.
pub const VARIABLE: &str = "";
