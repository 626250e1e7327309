//! `pilotlight cordon` and `pilotlight uncordon`: stop and resume matching the runners of a node or a deployment.

use super::Failure;
use super::client::admin::{self, AdminClient, AdminFlags};
use super::output::{print, printable};
use crate::api::routes::CORDON;
use crate::api::{Cordon, CordonTarget, Cordons};
use clap::{ArgGroup, Args};
use hyper::Method;
use std::path::PathBuf;

pub const CORDON_EXAMPLES: &str = "\
Examples:
  Before you remove a node (--node is what its runners send as x-trigger-worker-instance-name):
    pilotlight cordon --node worker-3
  When it is back:
    pilotlight uncordon --node worker-3
  List the cordons:
    pilotlight cordon

Exit codes:
  0  done
  1  the broker could not be reached, or refused
  2  a flag is invalid";

pub const UNCORDON_EXAMPLES: &str = "\
Examples:
  The node is back:
    pilotlight uncordon --node worker-3
  List the cordons:
    pilotlight cordon

Exit codes:
  0  done
  1  the broker could not be reached, or refused: it has no such cordon
  2  a flag is invalid";

#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("target").args(["node", "deployment"]))]
pub struct CordonFlags {
    /// Stop matching this node's runners (x-trigger-worker-instance-name)
    #[arg(long, value_name = "NAME", env = "PILOTLIGHT_CORDON_NODE")]
    node: Option<String>,
    /// Stop matching this deployment's runners (its friendly id)
    #[arg(long, value_name = "ID", env = "PILOTLIGHT_CORDON_DEPLOYMENT")]
    deployment: Option<String>,
    #[command(flatten)]
    admin: AdminFlags,
    /// A file with the broker's admin token (the content of its --admin-token-file)
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("target").args(["node", "deployment"]).required(true))]
pub struct UncordonFlags {
    /// Match this node's runners again (x-trigger-worker-instance-name)
    #[arg(long, value_name = "NAME", env = "PILOTLIGHT_UNCORDON_NODE")]
    node: Option<String>,
    /// Match this deployment's runners again (its friendly id)
    #[arg(long, value_name = "ID", env = "PILOTLIGHT_UNCORDON_DEPLOYMENT")]
    deployment: Option<String>,
    #[command(flatten)]
    admin: AdminFlags,
    /// A file with the broker's admin token (the content of its --admin-token-file)
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
}

pub fn run_cordon(flags: CordonFlags) -> Result<(), Failure> {
    let client = client(&flags.admin, flags.admin_token_file.as_ref())?;
    let Some(target) = target(flags.node, flags.deployment) else {
        return print(&listed(&client.get(CORDON)?));
    };
    let cordons: Cordons = client.change(Method::POST, CORDON, &target)?;
    let done = format!(
        "cordoned {}: the broker closed its held polls; it holds new ones and gives its runners no run until `pilotlight uncordon` or a restart of the broker",
        in_words(&target.into())
    );
    print(&(done + &no_answer(&cordons.stalled_workers, "it applies this when it answers again")))
}

pub fn run_uncordon(flags: UncordonFlags) -> Result<(), Failure> {
    let client = client(&flags.admin, flags.admin_token_file.as_ref())?;
    let target = target(flags.node, flags.deployment).expect("the group is required");
    let cordons: Cordons = client.change(Method::DELETE, CORDON, &target)?;
    let done = format!("uncordoned {}", in_words(&target.into()));
    print(&(done + &no_answer(&cordons.stalled_workers, "it applies this when it answers again")))
}

fn client(flags: &AdminFlags, token_file: Option<&PathBuf>) -> Result<AdminClient, Failure> {
    Ok(AdminClient::new(flags)?.with_token(admin::token(token_file)?))
}

fn target(node: Option<String>, deployment: Option<String>) -> Option<CordonTarget> {
    node.map(CordonTarget::Node).or_else(|| deployment.map(CordonTarget::Deployment))
}

/// `node worker-3` or `deployment deployment_abc`.
pub fn in_words(cordon: &Cordon) -> String {
    match (&cordon.node, &cordon.deployment) {
        (Some(name), _) => printable(&format!("node {name}")),
        (None, id) => printable(&format!("deployment {}", id.as_deref().unwrap_or_default())),
    }
}

fn listed(cordons: &Cordons) -> String {
    let lines: Vec<String> = cordons.cordons.iter().map(in_words).collect();
    let list = if lines.is_empty() { "nothing is cordoned".to_owned() } else { lines.join("\n") };
    list + &no_answer(&cordons.stalled_workers, "its cordons are not in this list")
}

/// A line about workers that did not answer, if there are any.
pub fn no_answer(stalled_workers: &[usize], consequence: &str) -> String {
    if stalled_workers.is_empty() {
        return String::new();
    }
    let workers: Vec<String> = stalled_workers.iter().map(usize::to_string).collect();
    format!("\nno answer from worker {}: {consequence}", workers.join(", "))
}
