//! System calls and services of the operating system: listeners, TCP, CPUs, descriptors, users, the service manager.

// With the io_uring engine, the only folder with unsafe code; each block says why it is sound.
#![allow(unsafe_code)]

pub mod activation;
pub mod calls;
pub mod cpus;
pub mod descriptors;
pub mod dumps;
pub mod listen;
pub mod notify;
pub mod process;
pub mod seccomp;
pub mod tcp;
pub mod tls;
pub mod user;
pub mod variables;
pub mod wait;

use activation::{Activated, ActivationError};
use descriptors::Descriptors;
use std::io;
use variables::TokenVariables;

/// What the process runs on, and what it was started with.
#[derive(Debug)]
pub struct Machine {
    /// The CPUs that the process may use, ascending.
    pub cpus: Vec<usize>,
    /// How many threads it can run at the same time.
    pub parallelism: usize,
    pub descriptors: Descriptors,
    /// Threads can have their own tables of descriptors.
    pub own_tables: bool,
    pub activated: Activated,
    pub token_variables: TokenVariables,
}

/// Why the process cannot start here.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error("cannot read which CPUs the process may use (sched_getaffinity): {0}")]
    Cpus(io::Error),
    #[error("cannot give up the right to gain privileges (PR_SET_NO_NEW_PRIVS): {0}")]
    Privileges(io::Error),
    #[error("cannot read the limit of open files (RLIMIT_NOFILE): {0}")]
    Descriptors(io::Error),
}

impl Machine {
    /// Takes over the sockets from the service manager, raises the process's limits, and gives up the right to
    /// gain privileges. Call it once, before everything else.
    pub fn prepare() -> Result<Self, MachineError> {
        user::no_new_privileges().map_err(MachineError::Privileges)?;
        Ok(Machine {
            activated: activation::take()?,
            cpus: cpus::allowed().map_err(MachineError::Cpus)?,
            parallelism: cpus::parallelism(),
            descriptors: Descriptors::raise().map_err(MachineError::Descriptors)?,
            own_tables: descriptors::supports_own_tables(),
            token_variables: TokenVariables::read(),
        })
    }
}
