//! Why the data plane could not start.

use crate::sys::listen::ListenError;
use crate::sys::user::DropError;
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
    /// No table of descriptors for a worker, though a trial at the start had one.
    #[error("--descriptor-tables: cannot give a worker a table of its own: {0}: choose process")]
    Tables(io::Error),
    /// The process could not give up its privileges.
    #[error(transparent)]
    Privileges(#[from] DropError),
    /// The filter of system calls was refused.
    #[error(
        "--seccomp: cannot filter the system calls of the workers: {0}: this kernel, or the sandbox around it, may not allow it; leave the flag out"
    )]
    Filter(io::Error),
    /// The runner side came as a Unix domain socket.
    #[error(
        "--listen: runners are served over TCP only, for only there delivery can be proved: hand over a TCP socket"
    )]
    RunnerPath,
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
