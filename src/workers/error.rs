//! Why the data plane could not start.

use crate::sys::listen::ListenError;
use crate::sys::user::DropError;
use std::io;

/// Why the data plane could not start: one line that names the flag, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(
        "--cpus: cannot pin a worker to CPU {cpu}: {source}: list CPUs that this process may use, or set --workers"
    )]
    Pin { cpu: usize, source: io::Error },
    #[error(
        "cannot start worker {worker} of {workers}: {source}: lower --workers, or raise the process's limit of tasks"
    )]
    Thread { worker: usize, workers: usize, source: io::Error },
    /// The kernel refused a table although a trial at the start succeeded.
    #[error("--descriptor-tables worker: cannot give a worker its own table: {0}: set it to process")]
    Tables(io::Error),
    #[error(transparent)]
    Privileges(#[from] DropError),
    #[error(
        "--seccomp: cannot filter the system calls of the workers: {0}: this kernel, or the sandbox around it, may not allow it; omit the flag"
    )]
    Filter(io::Error),
    /// The service manager handed over a Unix domain socket for the runner side.
    #[error(
        "--listen: the socket for runners is a Unix domain socket, on which delivery cannot be proved: set ListenStream= in its .socket unit to a TCP address"
    )]
    RunnerPath,
    #[error("no descriptor left to start the workers: raise the limit (`ulimit -n`, LimitNOFILE)")]
    Descriptors,
    /// A listener's socket refused an option.
    #[error("{flag}: cannot set the socket's TCP options: {source}: check the flags --tcp-…")]
    SocketOptions { flag: &'static str, source: io::Error },
    /// epoll, eventfd or io_uring failed.
    #[error("--engine {engine}: cannot set up the engine: {source}")]
    Engine { engine: &'static str, source: io::Error },
}
