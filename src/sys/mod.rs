//! What the process asks of its machine.

pub mod listen;
pub mod tcp;
