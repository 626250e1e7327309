//! `pilotlight explain`: why a run of a deployment would be cold now.

use super::Failure;
use super::client::admin::{AdminClient, AdminFlags};
use super::cordon;
use super::output::{print, printable};
use crate::api::routes::EXPLAIN;
use crate::api::{ExplainQuery, Explanation};
use clap::Args;
use std::fmt::Write;

pub const EXAMPLES: &str = "\
Examples:
  Which runners wait for this deployment, and what prevents a match:
    pilotlight explain deployment_abc
  A run of this version and machine size:
    pilotlight explain deployment_abc --version 20260801.1 --cpu 0.5 --memory 0.5

Exit codes:
  0  answered, warm or cold
  1  the broker could not be reached, or refused
  2  a flag is invalid";

#[derive(Args, Clone, Debug)]
pub struct ExplainFlags {
    /// The deployment's friendly id
    #[arg(value_name = "DEPLOYMENT")]
    deployment: String,
    /// The run's version (default: any)
    #[arg(long = "version", value_name = "VERSION", env = "PILOTLIGHT_EXPLAIN_VERSION")]
    run_version: Option<String>,
    /// vCPUs of the run's machine size (default: any)
    #[arg(long, value_name = "NUMBER", env = "PILOTLIGHT_EXPLAIN_CPU")]
    cpu: Option<f64>,
    /// GB of the run's machine size (default: any)
    #[arg(long, value_name = "NUMBER", env = "PILOTLIGHT_EXPLAIN_MEMORY")]
    memory: Option<f64>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// The command lists at most this many keys.
const KEYS_SHOWN: usize = 15;

pub fn run(flags: ExplainFlags) -> Result<(), Failure> {
    let ExplainFlags { deployment, run_version: version, cpu, memory, admin } = flags;
    let path = path(&ExplainQuery { deployment, version, cpu, memory });
    print(&in_words(&AdminClient::new(&admin)?.get(&path)?))
}

/// The route and its query.
fn path(query: &ExplainQuery) -> String {
    let mut fields = form_urlencoded::Serializer::new(String::new());
    fields.append_pair("deployment", &query.deployment);
    if let Some(version) = &query.version {
        fields.append_pair("version", version);
    }
    for (name, number) in [("cpu", query.cpu), ("memory", query.memory)] {
        if let Some(number) = number {
            fields.append_pair(name, &number.to_string());
        }
    }
    format!("{EXPLAIN}?{}", fields.finish())
}

/// The answer as text for a terminal.
fn in_words(answer: &Explanation) -> String {
    let mut words = match &answer.reason {
        None => format!("warm: {} ready", runners(answer.ready)),
        Some(reason) => format!("cold: {}", reason.replace('_', " ")),
    };
    let _ = write!(words, "\n{}", printable(&answer.advice));
    if !answer.keys.is_empty() {
        let _ = write!(words, "\n\nwaiting  parked  cordoned     warm     cold  version, machine size");
    }
    for key in answer.keys.iter().take(KEYS_SHOWN) {
        let _ = write!(
            words,
            "\n{:7}  {:6}  {:8}  {:7}  {:7}  {}, {} vCPU, {} GB",
            key.waiting,
            key.parked,
            key.cordoned,
            key.warm,
            key.cold + key.unconfirmed,
            printable(&key.version),
            key.cpu,
            key.memory
        );
    }
    if answer.keys_total > KEYS_SHOWN {
        let _ = write!(words, "\n… and {} more", answer.keys_total - KEYS_SHOWN);
    }
    if !answer.cordons.is_empty() {
        let cordons: Vec<String> = answer.cordons.iter().map(cordon::in_words).collect();
        let _ = write!(words, "\n\ncordoned: {}", cordons.join(", "));
    }
    words + &cordon::no_answer(&answer.stalled_workers, "the figures do not include its polls")
}

fn runners(count: u64) -> String {
    if count == 1 { "1 runner is".to_owned() } else { format!("{count} runners are") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_survives_encoding() {
        let query = ExplainQuery {
            deployment: "a&b=c %ü".to_owned(),
            version: Some("1/2".to_owned()),
            cpu: Some(0.5),
            memory: None,
        };
        assert_eq!(path(&query), "/api/explain?deployment=a%26b%3Dc+%25%C3%BC&version=1%2F2&cpu=0.5");
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let answer = Explanation {
            outcome: "cold".into(),
            reason: Some("other_version".into()),
            advice: "runners wait for \u{1b}[31m1".to_owned(),
            stalled_workers: vec![3],
            ..Explanation::default()
        };
        assert_eq!(
            in_words(&answer),
            "cold: other version\nrunners wait for \u{fffd}[31m1\nno answer from worker 3: the figures do not include its polls"
        );
    }
}
