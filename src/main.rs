//! `pilotlight`: parse, resolve, run.

use pilotlight::api::ExplainQuery;
use pilotlight::broker::report::Selector;
use pilotlight::cli::{self, CheckFlags, Command, DemoFlags, DrainFlags, ExplainFlags, ServeFlags};
use pilotlight::clients::bench::{self, BenchError};
use pilotlight::clients::check::{self, Sides, Verdict};
use pilotlight::clients::demo::{self, DemoError};
use pilotlight::config::{AdminToken, ConfigError, ServeConfig};
use pilotlight::control::client::{self, Ask, AskError};
use pilotlight::control::lifecycle::{self, RunError};
use pilotlight::sys::{Machine, MachineError};
use pilotlight::top::{self, TopError};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(flags)) => serve(*flags),
        Ok(Command::Drain(flags)) => drain(flags),
        Ok(Command::Explain(flags)) => explain(flags),
        Ok(Command::Demo(flags)) => show(&flags),
        Ok(Command::Check(flags)) => check(&flags),
        Ok(Command::Top(flags)) => top::run(&flags).map_err(Failure::Top),
        Ok(Command::Bench(flags)) => bench::run(&flags).map_err(Failure::Bench),
        Ok(Command::Man(dir)) => cli::write_man_pages(&dir).map_err(|source| Failure::Folder { dir, source }),
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
        (Some(node), _) => Some(Selector::Node(node)),
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
    tell(client::run(&admin, &Ask::Explain(ExplainQuery { deployment, version, cpu, memory }), None)?)
}

fn show(flags: &DemoFlags) -> Result<(), Failure> {
    Ok(demo::run(flags, Machine::prepare()?)?)
}

fn check(flags: &CheckFlags) -> Result<(), Failure> {
    let dispatch = flags.dispatch.as_ref().unwrap_or(&flags.runner);
    let sides =
        Sides::parse(&flags.runner, dispatch, &flags.admin).map_err(|url| Failure::Url(url.to_owned()))?;
    let found = check::check(&sides);
    let lines: Vec<String> = found
        .iter()
        .map(|finding| {
            let mark = match finding.verdict {
                Verdict::Well => "ok  ",
                Verdict::Note => "note",
                Verdict::Bad => "BAD ",
            };
            format!("{mark}  {}", finding.text)
        })
        .collect();
    tell(lines.join("\n"))?;
    match found.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        count => Err(Failure::Check(count)),
    }
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
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Top(#[from] TopError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error("{0:?} is no URL of a broker: write http://HOST:PORT (https is not spoken here)")]
    Url(String),
    #[error("{0} of these do not work")]
    Check(usize),
    #[error("cannot write manual pages to {}: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// As `--help` documents them.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Demo(DemoError::Run(RunError::ForcedStop(stop))) => stop.exit_code(),
            Failure::Url(_) | Failure::Config(_) | Failure::Machine(MachineError::Activation(_)) => USAGE,
            Failure::Run(RunError::Log(_)) | Failure::Ask(AskError::Url(_)) => USAGE,
            Failure::Top(TopError::Ask(AskError::Url(_))) => USAGE,
            Failure::Bench(BenchError::Url(_) | BenchError::Remote { .. } | BenchError::Runs { .. }) => USAGE,
            Failure::Run(RunError::ForcedStop(stop)) => stop.exit_code(),
            Failure::Machine(_) | Failure::Run(_) | Failure::Ask(_) | Failure::Output(_) => FAILED,
            Failure::Top(_)
            | Failure::Bench(_)
            | Failure::Demo(_)
            | Failure::Check(_)
            | Failure::Folder { .. } => FAILED,
        }
    }
}
