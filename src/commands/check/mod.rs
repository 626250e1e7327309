//! `pilotlight check`: tests a running broker as a runner, a supervisor and an operator, and says what to fix.

mod probes;

use super::Failure;
use super::client::{Client, Endpoint};
use super::output::print;
use clap::Args;
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
Examples:
  On the broker's machine, with default addresses:
    pilotlight check
  As a supervisor in the worker stack sees it:
    pilotlight check --runner http://pilotlight:8040 --dispatch http://172.30.84.2:8041 \\
      --admin http://172.30.84.2:8042

The check acts as a runner and as a supervisor of a deployment that does not exist. No real runner and no
real run takes part.

Exit codes:
  0  everything works, perhaps with warnings
  1  something does not work
  2  a flag is invalid";

#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// The runner side (the value of TRIGGER_WARM_START_URL): http:// or https://
    #[arg(
        long,
        value_name = "URL",
        env = "PILOTLIGHT_CHECK_RUNNER",
        default_value = "http://127.0.0.1:8040"
    )]
    runner: String,
    /// The dispatch side (the value of TRIGGER_WARM_START_DISPATCH_URL): http://, https:// or unix:PATH (default: the runner side)
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_CHECK_DISPATCH")]
    dispatch: Option<String>,
    /// The admin side: http://, https:// or unix:PATH
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    admin: String,
    /// A PEM file with the authority of the sides' certificates, for https:// (default: the system's authorities)
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_CA")]
    ca: Option<PathBuf>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Ok,
    /// It works, or was not tested, and the operator should know.
    Warning,
    Failure,
}

/// The result of one probe: one line that says what to do.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    text: String,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Ok, text: text.into() }
    }

    fn warning(text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, text: text.into() }
    }

    fn failure(text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Failure, text: text.into() }
    }

    fn line(&self) -> String {
        let mark = match self.severity {
            Severity::Ok => "ok  ",
            Severity::Warning => "warn",
            Severity::Failure => "FAIL",
        };
        format!("{mark}  {}", self.text)
    }
}

/// A client of each side.
struct Sides {
    runner: Client,
    dispatch: Client,
    admin: Client,
}

pub fn run(flags: &CheckFlags) -> Result<(), Failure> {
    let findings = probes::all(sides(flags)?);
    let lines: Vec<String> = findings.iter().map(Finding::line).collect();
    print(&lines.join("\n"))?;
    match findings.iter().filter(|finding| finding.severity == Severity::Failure).count() {
        0 => Ok(()),
        count => Err(Failure::failed(format!("{count} of these checks failed"))),
    }
}

fn sides(flags: &CheckFlags) -> Result<Sides, Failure> {
    let client = |flag: &str, variable: &str, text: &str| {
        let endpoint = Endpoint::parse(text).ok_or_else(|| {
            Failure::usage(format!(
                "{flag} ({variable}): {text:?} is not the address of a broker. Use a URL such as http://HOST:PORT"
            ))
        })?;
        Client::new(endpoint, flags.ca.as_deref()).map_err(Failure::usage)
    };
    let dispatch = flags.dispatch.as_ref().unwrap_or(&flags.runner);
    Ok(Sides {
        runner: client("--runner", "PILOTLIGHT_CHECK_RUNNER", &flags.runner)?,
        dispatch: client("--dispatch", "PILOTLIGHT_CHECK_DISPATCH", dispatch)?,
        admin: client("--admin", "PILOTLIGHT_ADMIN", &flags.admin)?,
    })
}
