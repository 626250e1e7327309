//! The build without planted bugs. The test `planted_bugs` makes a copy of the package with another file in this place.

/// True in the copy with the bugs.
pub const READY: bool = false;
/// The environment variable that selects one.
pub const VARIABLE: &str = "";
