//! What the process asks of its machine: listeners, CPUs, descriptors, the service manager.

// The one place outside the engines; each block says why it is sound.
#![allow(unsafe_code)]

pub mod activation;
pub mod calls;
pub mod cpus;
pub mod descriptors;
pub mod dumps;
pub mod handover;
pub mod kernel;
pub mod listen;
pub mod listeners;
pub mod local;
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

/// What there is to run on.
#[derive(Debug)]
pub struct Machine {
    /// CPUs that the process may use, ascending.
    pub cpus: Vec<usize>,
    /// Threads that it can run at once.
    pub parallelism: usize,
    /// Its limit of open files.
    pub descriptors: Descriptors,
    /// Threads can have descriptors of their own.
    pub own_tables: bool,
    /// Listeners that came with it.
    pub activated: Activated,
    /// What its environment says about tokens.
    pub token_variables: TokenVariables,
}

/// Why the machine could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Socket activation.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// sched_getaffinity.
    #[error("cannot ask which CPUs the process may use: {0}")]
    Cpus(io::Error),
    /// prctl.
    #[error("cannot give up new privileges (PR_SET_NO_NEW_PRIVS): {0}")]
    Privileges(io::Error),
    /// getrlimit.
    #[error("cannot ask for the limit of open files: {0}")]
    Descriptors(io::Error),
}

impl Machine {
    /// Takes over what came with the process, raises its limits and gives up new privileges. Call it
    /// first, and once.
    pub fn prepare() -> Result<Self, MachineError> {
        user::no_new_privileges().map_err(MachineError::Privileges)?;
        Ok(Machine {
            activated: activation::take()?,
            cpus: cpus::allowed().map_err(MachineError::Cpus)?,
            parallelism: cpus::parallelism(),
            descriptors: Descriptors::raise().map_err(MachineError::Descriptors)?,
            own_tables: descriptors::own_tables_can_be_had(),
            token_variables: TokenVariables::read(),
        })
    }
}
