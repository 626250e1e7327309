//! JSON (RFC 8259), scanned without recursion, copying or a tree. Knows no field of any document.

mod block;
mod containers;
mod error;
mod members;
mod number;
mod scan;
mod skip;
mod text;

#[cfg(test)]
pub(crate) use block::BLOCK;
pub use error::{Expected, JsonError};
pub use members::{Value, each_member};
pub use number::Number;
pub(crate) use scan::Scanner;
pub(crate) use text::Text;
