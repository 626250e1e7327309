//! What the process asks of its machine: listeners, CPUs, descriptors, the service manager.

pub mod listen;
