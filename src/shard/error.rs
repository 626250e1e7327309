//! Why the data plane could not start.

use crate::sys::listen::ListenError;
use std::io;

/// Why the data plane could not start: one line that says what happened, with which value, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A worker could not be pinned.
    #[error(
        "--cpus: cannot pin a worker to CPU {cpu}: {source}: name CPUs that this process may use, or set --workers"
    )]
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread for a worker.
    #[error(
        "cannot start worker {worker} of {workers}: {source}: lower --workers, or raise the process's limit of tasks"
    )]
    Thread {
        /// Index of the worker.
        worker: usize,
        /// How many were to start.
        workers: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process is out of descriptors before it serves anybody.
    #[error("no descriptor left to start with: raise the limit (`ulimit -n`, LimitNOFILE)")]
    Descriptors,
    /// The engine could not be set up (epoll, eventfd, io_uring).
    #[error("cannot set up the {engine} engine: {source}")]
    Engine {
        /// Which engine.
        engine: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}
