//! `pilotlight`: parse, resolve, run.

use pilotlight::broker::report::Selector;
use pilotlight::cli::{self, Command, DrainFlags, ExplainFlags, ServeFlags};
use pilotlight::config::{AdminToken, ConfigError, ServeConfig};
use pilotlight::control::client::{self, Ask, AskError};
use pilotlight::control::explain::Asked;
use pilotlight::control::lifecycle::{self, RunError};
use pilotlight::sys::{Machine, MachineError};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(flags)) => serve(*flags),
        Ok(Command::Drain(flags)) => drain(flags),
        Ok(Command::Explain(flags)) => explain(flags),
        Ok(Command::Completions(shell)) => cli::print_completions(shell).map_err(Failure::Output),
        Err(error) if error.print() => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::from(USAGE),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pilotlight: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn serve(flags: ServeFlags) -> Result<(), Failure> {
    let machine = Machine::prepare()?;
    let config = ServeConfig::resolve(flags, machine)?;
    Ok(lifecycle::run(config)?)
}

fn drain(flags: DrainFlags) -> Result<(), Failure> {
    let selector = match (flags.node, flags.deployment) {
        (Some(node), _) => Some(Selector::Instance(node)),
        (_, Some(id)) => Some(Selector::Deployment(id)),
        (None, None) => None,
    };
    let ask = match selector {
        None => Ask::List,
        Some(selector) if flags.lift => Ask::Lift(selector),
        Some(selector) => Ask::Begin(selector),
    };
    let token = match flags.admin_token_file {
        None => None,
        Some(path) => Some(AdminToken::read(&path).map_err(|advice| ConfigError {
            flag: "--admin-token-file",
            value: path.display().to_string(),
            advice,
        })?),
    };
    tell(client::run(&flags.admin, &ask, token.as_ref())?)
}

fn explain(flags: ExplainFlags) -> Result<(), Failure> {
    let ExplainFlags { deployment, run_version: version, cpu, memory, admin } = flags;
    tell(client::run(&admin, &Ask::Explain(Asked { deployment, version, cpu, memory }), None)?)
}

fn tell(words: String) -> Result<(), Failure> {
    writeln!(io::stdout(), "{words}").map_err(Failure::Output)
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// As `--help` documents them.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Machine(MachineError::Activation(_)) => USAGE,
            Failure::Run(RunError::Log(_)) | Failure::Ask(AskError::Url(_)) => USAGE,
            Failure::Run(RunError::Impatient(stop)) => stop.exit_code(),
            Failure::Machine(_) | Failure::Run(_) | Failure::Ask(_) | Failure::Output(_) => FAILED,
        }
    }
}
