//! Raw flags and environment, as typed, and what is said when they cannot be read.

mod tools;

pub use tools::{BenchFlags, PoolOrder, TopFlags};

use crate::config::flags::{self, advanced, listeners, monitoring, timeouts};
use crate::config::values::{Count, Millis};
use crate::config::{ConfigError, ServeFlags};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  Try it on this machine:
    pilotlight
  Runners reach 8040; only the supervisor's network reaches 8041:
    pilotlight serve --listen 0.0.0.0:8040 --dispatch-listen 10.0.0.5:8041
  Supervisor and operators on this machine, by file permissions:
    pilotlight serve --listen 0.0.0.0:8040 --dispatch-listen unix:/run/pilotlight/dispatch.sock \\
      --admin-listen unix:/run/pilotlight/admin.sock
  Two workers on their own CPUs, logs for machines:
    pilotlight serve --cpus 2-3 --log-format json
  See that it works: open http://127.0.0.1:8042/ in a browser, or
    curl http://127.0.0.1:8042/status

Signals:
  SIGTERM, SIGINT  drain: /readyz turns 503, dispatches get false, held polls are closed
                   over --shutdown-time; then exit 0
  a second one     exit at once (within 0.2s it is taken for an echo of the first)
  SIGHUP           read --token-secret-file again; a file that cannot be used changes nothing

Exit codes:
  0         served, and drained
  1         failed at run time (address in use, a worker ended)
  2         a flag, its environment variable or the machine's limits do not allow it
  130, 143  told twice to stop, by SIGINT or SIGTERM

Flags for tuning by measurement: pilotlight serve --help-advanced";

/// Warm starts for self-hosted Trigger.dev
///
/// Pilotlight holds the long polls of warm runners and hands each run to one that has the same deployment, version and machine, so that it starts in milliseconds instead of in a new container. Without a command it does what `pilotlight serve` does.
#[derive(Debug, Parser)]
#[command(name = "pilotlight", version, args_conflicts_with_subcommands = true)]
#[command(after_long_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<RawCommand>,
}

#[derive(Debug, Subcommand)]
enum RawCommand {
    /// Run the broker (also what plain `pilotlight` does)
    #[command(after_long_help = EXAMPLES, max_term_width = 100)]
    Serve(Box<ServeFlags>),
    /// Keep runs away from one node or one deployment of a running broker, or list what is kept away
    #[command(after_long_help = DRAIN_EXAMPLES, max_term_width = 100)]
    Drain(DrainFlags),
    /// Ask a running broker why a run of a deployment would be cold now
    #[command(after_long_help = EXPLAIN_EXAMPLES, max_term_width = 100)]
    Explain(ExplainFlags),
    /// Show it at work: a broker, runners and a supervisor on this machine, matches in the terminal
    #[command(after_long_help = DEMO_EXAMPLES, max_term_width = 100)]
    Demo(DemoFlags),
    /// Try a running broker as a runner, a supervisor and an operator would, and say what to fix
    #[command(after_long_help = CHECK_EXAMPLES, max_term_width = 100)]
    Check(CheckFlags),
    /// Watch a running broker in the terminal: rates, latency, who waits, why runs are cold
    #[command(after_long_help = tools::TOP_EXAMPLES, max_term_width = 100)]
    Top(TopFlags),
    /// Load a running broker with runs at a fixed rate, and measure how long each takes
    #[command(after_long_help = tools::BENCH_EXAMPLES, max_term_width = 100)]
    Bench(Box<BenchFlags>),
    /// Write the manual pages
    Man {
        /// The folder to write them to
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell to print them for
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

const DRAIN_EXAMPLES: &str = "\
Examples:
  Before a node is taken away (the name that its runners send as x-trigger-worker-instance-name):
    pilotlight drain --node worker-3
  It is back:
    pilotlight drain --node worker-3 --lift
  What is drained now:
    pilotlight drain

Exit codes:
  0  done
  1  the broker could not be reached, or refused
  2  a flag cannot be read";

/// The flags of `pilotlight drain`, as typed.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("selector").args(["node", "deployment"]))]
pub struct DrainFlags {
    /// Close the held polls of this node's runners (x-trigger-worker-instance-name)
    #[arg(long, value_name = "NAME", env = "PILOTLIGHT_CORDON_NODE")]
    pub node: Option<String>,
    /// Close the held polls of this deployment's runners (its friendly id)
    #[arg(long, value_name = "ID", env = "PILOTLIGHT_CORDON_DEPLOYMENT")]
    pub deployment: Option<String>,
    /// Lift that drain
    #[arg(long, requires = "selector", env = "PILOTLIGHT_DRAIN_LIFT")]
    pub lift: bool,
    /// The running broker's admin side; unix:PATH for a Unix domain socket
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    pub admin: String,
    /// The file with its --admin-token-file's content
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
}

const DEMO_EXAMPLES: &str = "\
Examples:
  Until Ctrl-C; the page's address is in the first lines:
    pilotlight demo
  For ten seconds, with many runs:
    pilotlight demo --for 10s --every 50ms --runners 20";

/// The flags of `pilotlight demo`, as typed.
#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// Runners that wait
    #[arg(long, value_name = "COUNT", env = "PILOTLIGHT_DEMO_RUNNERS", default_value = "4")]
    pub runners: Count,
    /// Between two runs
    #[arg(long, value_name = "TIME", env = "PILOTLIGHT_DEMO_EVERY", default_value = "500ms")]
    pub every: Millis,
    /// End by itself after this
    #[arg(long = "for", value_name = "TIME", env = "PILOTLIGHT_DEMO_FOR")]
    pub time: Option<Millis>,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  On the machine itself, everything at its default:
    pilotlight check
  As a supervisor in the worker stack sees it:
    pilotlight check --runner http://pilotlight:8040 --dispatch http://172.30.84.2:8041 \\
      --admin http://172.30.84.2:8042

It takes part as a runner and as a supervisor of a deployment that nobody has: no real runner and no
real run is touched.

Exit codes:
  0  all is well, or there is something to think about
  1  something does not work
  2  a flag cannot be read";

/// The flags of `pilotlight check`, as typed.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// The runner side, as runners are told it (TRIGGER_WARM_START_URL)
    #[arg(
        long,
        value_name = "URL",
        env = "PILOTLIGHT_CHECK_RUNNER",
        default_value = "http://127.0.0.1:8040"
    )]
    pub runner: String,
    /// The dispatch side, as the supervisor is told it (TRIGGER_WARM_START_DISPATCH_URL); the runner side if not given
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_CHECK_DISPATCH")]
    pub dispatch: Option<String>,
    /// The admin side
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    pub admin: String,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  Who waits for this deployment, and what is in the way:
    pilotlight explain deployment_abc
  A run of this version on this machine:
    pilotlight explain deployment_abc --version 20260801.1 --cpu 0.5 --memory 0.5

Exit codes:
  0  answered, warm or cold
  1  the broker could not be reached, or refused
  2  a flag cannot be read";

/// The flags of `pilotlight explain`, as typed.
#[derive(Args, Clone, Debug)]
pub struct ExplainFlags {
    /// The deployment's friendly id
    #[arg(value_name = "DEPLOYMENT")]
    pub deployment: String,
    /// The version that the run is of
    #[arg(long = "version", value_name = "VERSION", env = "PILOTLIGHT_EXPLAIN_VERSION")]
    pub run_version: Option<String>,
    /// vCPUs of the run's machine
    #[arg(long, value_name = "NUMBER", env = "PILOTLIGHT_EXPLAIN_CPU")]
    pub cpu: Option<f64>,
    /// GB of the run's machine
    #[arg(long, value_name = "NUMBER", env = "PILOTLIGHT_EXPLAIN_MEMORY")]
    pub memory: Option<f64>,
    /// The running broker's admin side
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    pub admin: String,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the broker.
    Serve(Box<ServeFlags>),
    /// Talk to a running one.
    Drain(DrainFlags),
    /// Ask a running one.
    Explain(ExplainFlags),
    /// Show a broker at work.
    Demo(DemoFlags),
    /// Try a running one.
    Check(CheckFlags),
    /// Watch a running one.
    Top(TopFlags),
    /// Load a running one.
    Bench(Box<BenchFlags>),
    /// Write manual pages to this folder.
    Man(PathBuf),
    /// Print completions.
    Completions(clap_complete::Shell),
}

/// The command line asks for nothing that can be run: a mistake, or `--help`.
#[derive(Debug)]
pub struct NotACommand {
    error: clap::Error,
    /// The first argument, which names the command if there is one.
    command: Option<OsString>,
}

impl NotACommand {
    /// Prints what there is to say; true if that was asked for (`--help`, `--version`).
    pub fn print(&self) -> bool {
        let asked_for = !self.error.use_stderr();
        match self.one_line() {
            Some(line) => eprintln!("pilotlight: {line}"),
            // A closed standard output is nobody's problem.
            None => drop(self.error.print()),
        }
        asked_for
    }

    /// A value that cannot be read, in one line that has the form of a [`ConfigError`].
    fn one_line(&self) -> Option<String> {
        let error = &self.error;
        let ContextValue::String(arg) = error.get(ContextKind::InvalidArg)? else {
            return None;
        };
        let flag = arg.split([' ', '=']).next().unwrap_or(arg);
        let value = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => value,
            _ => return None,
        };
        let problem = match error.kind() {
            ErrorKind::ValueValidation => error.source()?.to_string(),
            ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue)? {
                ContextValue::Strings(valid) => {
                    format!("is not a valid choice. Use one of {}.", valid.join(", "))
                }
                _ => return None,
            },
            _ => return None,
        };
        let variable = self.variable_of(flag);
        Some(ConfigError::of_value(flag, variable.as_deref(), OsStr::new(value), &problem).to_string())
    }

    /// The environment variable of a flag of the command.
    fn variable_of(&self, flag: &str) -> Option<String> {
        let cli = Cli::command();
        let command = cli.find_subcommand(self.command.as_ref()?).unwrap_or(&cli);
        let long = flag.strip_prefix("--")?;
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
        Some(arg.get_env()?.to_string_lossy().into_owned())
    }
}

/// Reads the command line and the environment.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, NotACommand> {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli =
        Cli::try_parse_from(&args).map_err(|error| NotACommand { error, command: args.get(1).cloned() })?;
    Ok(match cli.command {
        None => Command::Serve(Box::new(cli.serve)),
        Some(RawCommand::Serve(flags)) => Command::Serve(flags),
        Some(RawCommand::Drain(flags)) => Command::Drain(flags),
        Some(RawCommand::Explain(flags)) => Command::Explain(flags),
        Some(RawCommand::Demo(flags)) => Command::Demo(flags),
        Some(RawCommand::Check(flags)) => Command::Check(flags),
        Some(RawCommand::Top(flags)) => Command::Top(flags),
        Some(RawCommand::Bench(flags)) => Command::Bench(flags),
        Some(RawCommand::Man { dir }) => Command::Man(dir),
        Some(RawCommand::Completions { shell }) => Command::Completions(shell),
    })
}

/// Writes one manual page per command to `dir`, which is made if it is not there.
pub fn write_man_pages(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(flags::show_advanced(Cli::command()), dir)
}

/// The flags of the demo's broker: these addresses, and otherwise defaults, whatever the environment sets. The demo's
/// runners are threads of the same process, so the broker uses the process's descriptor table: a worker's own table
/// would start with a copy of the runners' connections, which would stay open there when a runner closes its own.
pub fn demo_broker(runner: SocketAddr, dispatch: SocketAddr, admin: SocketAddr) -> ServeFlags {
    ServeFlags::with([
        (listeners::LISTEN.name, runner.to_string()),
        (listeners::DISPATCH_LISTEN.name, dispatch.to_string()),
        (listeners::ADMIN_LISTEN.name, admin.to_string()),
        (monitoring::LOG_LEVEL.name, "error".to_owned()),
        (timeouts::SHUTDOWN_TIME.name, "200ms".to_owned()),
        (advanced::DESCRIPTOR_TABLES.name, "process".to_owned()),
    ])
}

/// Writes completions for `shell` to standard output.
pub fn print_completions(shell: clap_complete::Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilotlight", &mut script);
    io::stdout().write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, NotACommand> {
        parse(std::iter::once("pilotlight").chain(args.iter().copied()).map(OsString::from))
    }

    fn refused(args: &[&str]) -> String {
        let error = parsed(args).expect_err("refused");
        error.one_line().unwrap_or_else(|| error.error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
        assert!(EXAMPLES.ends_with(flags::SEE_ADVANCED));
    }

    #[test]
    fn every_flag_of_other_commands_has_its_environment_variable() {
        let cli = Cli::command();
        let others = cli.get_subcommands().filter(|command| command.get_name() != "serve");
        for (command, arg) in
            others.flat_map(|command| command.get_arguments().map(move |arg| (command, arg)))
        {
            let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
            let env = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            assert!(env.starts_with("PILOTLIGHT_"), "{} --{long}: {env:?}", command.get_name());
        }
    }

    #[test]
    fn plain_pilotlight_takes_the_flags_of_serve() {
        for args in [&["--listen", "127.0.0.1:1"][..], &["serve", "--listen", "127.0.0.1:1"][..]] {
            match parsed(args) {
                Ok(Command::Serve(flags)) => assert!(format!("{flags:?}").contains("127.0.0.1:1")),
                other => panic!("{args:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn values_that_cannot_be_read_get_one_line() {
        assert_eq!(
            refused(&["demo", "--for", "soon"]),
            "--for (PILOTLIGHT_DEMO_FOR): \"soon\" is not a duration. Use a value such as 30s or 5m."
        );
        assert_eq!(
            refused(&["bench", "--for", "2h"]),
            "--for (PILOTLIGHT_BENCH_FOR): \"2h\" is out of range. Use a duration of at most 1h."
        );
        assert_eq!(
            refused(&["top", "--sort", "size"]),
            "--sort (PILOTLIGHT_TOP_SORT): \"size\" is not a valid choice. Use one of waiting, hits, misses, oldest, name."
        );
    }

    #[test]
    fn explain_takes_a_deployment_and_what_the_run_needs() {
        let asked = parsed(&["explain", "d", "--version", "1", "--cpu", "0.5"]);
        assert!(matches!(
            asked,
            Ok(Command::Explain(ExplainFlags { run_version: Some(_), cpu: Some(0.5), .. }))
        ));
        assert!(parsed(&["explain"]).is_err());
        assert!(parsed(&["explain", "d", "--cpu", "much"]).is_err());
    }

    #[test]
    fn drain_takes_one_selector_and_lift_needs_it() {
        assert!(matches!(
            parsed(&["drain", "--node", "n", "--lift"]),
            Ok(Command::Drain(DrainFlags { lift: true, .. }))
        ));
        assert!(parsed(&["drain"]).is_ok());
        assert!(parsed(&["drain", "--lift"]).is_err());
        assert!(parsed(&["drain", "--node", "n", "--deployment", "d"]).is_err());
    }
}
