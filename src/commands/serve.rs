//! `pilotlight serve`: the broker. Its flags are the settings of [`crate::config`].

use super::Failure;
use crate::config::{ConfigError, ServeConfig, ServeFlags};
use crate::control::lifecycle::{self, RunError};
use crate::sys::{Machine, MachineError};

pub const EXAMPLES: &str = "\
Examples:
  Try it on this machine:
    pilotlight
  Runners reach 8040; only the supervisor's network reaches 8041:
    pilotlight serve --listen 0.0.0.0:8040 --dispatch-listen 10.0.0.5:8041
  Supervisor and operators on this machine, by file permissions:
    pilotlight serve --listen 0.0.0.0:8040 --dispatch-listen unix:/run/pilotlight/dispatch.sock \\
      --admin-listen unix:/run/pilotlight/admin.sock
  Two workers on their own CPUs, logs as JSON:
    pilotlight serve --cpus 2-3 --log-format json
  Watch it: open http://127.0.0.1:8042/ in a browser, or
    curl http://127.0.0.1:8042/status

Signals:
  SIGTERM, SIGINT  shut down: /readyz turns 503, dispatches get false, the broker closes
                   held polls over --shutdown-time; then it exits with status 0
  a second one     exit at once (within 0.2s it counts as an echo of the first)
  SIGHUP           read --token-secret-file and the TLS files again; a file that cannot be
                   used changes nothing

Exit codes:
  0         served, and shut down
  1         failed at run time (address in use, a worker ended)
  2         a flag, its environment variable or the machine's limits do not allow it
  130, 143  stopped by a second SIGINT or SIGTERM

Flags for tuning by measurement: pilotlight serve --help-advanced";

pub fn run(flags: ServeFlags) -> Result<(), Failure> {
    let machine = Machine::prepare()?;
    let config = ServeConfig::resolve(flags, machine)?;
    Ok(lifecycle::run(config)?)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error)
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Failure {
        match error {
            MachineError::Activation(_) => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match &error {
            RunError::Log(_) => Failure::usage(error),
            RunError::ForcedStop(stop) => {
                let exit_code = stop.exit_code();
                Failure::with_code(error, exit_code)
            }
            _ => Failure::failed(error),
        }
    }
}
