//! The probes: is each side reachable, does each serve only its own routes, and does a run get from a supervisor to a
//! runner?

use super::{Finding, Severity, Sides};
use crate::api::Readiness;
use crate::api::routes::{READYZ, STATUS};
use crate::commands::client::{Answer, Client, ClientError, Request};
use crate::commands::warm_start::Key;
use std::thread;
use std::time::{Duration, Instant};

/// The canary's deployment. No real deployment has this name.
const CANARY: &str = "deployment_pilotlight-check";
const CANARY_VERSION: &str = "check";
const PATIENCE: Duration = Duration::from_secs(5);
/// The broker may need a moment until it holds the canary's poll.
const HELD_WITHIN: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Runs all probes. A later probe means little if an earlier one fails.
pub fn all(sides: Sides) -> Vec<Finding> {
    let mut findings = vec![runner_side(&sides.runner), admin_side(&sides.admin)];
    if findings[0].severity == Severity::Failure {
        return findings;
    }
    findings.extend([runner_side_takes_no_dispatch(&sides), runner_side_has_no_admin(&sides.runner)]);
    findings.push(one_run(sides));
    findings
}

fn runner_side(client: &Client) -> Finding {
    let url = client.endpoint();
    match client.ask(Request::get("/connect"), PATIENCE) {
        Ok(answer) if answer.status == 200 && answer.text().contains("connectionTimeoutMs") => {
            Finding::ok(format!("runner side: {url} answers {}", answer.text()))
        }
        Ok(Answer { status, .. }) => Finding::failure(format!(
            "runner side: {url}/connect answers {status}, which no warm-start broker does. Is TRIGGER_WARM_START_URL this address?"
        )),
        Err(error) => Finding::failure(format!(
            "runner side: {url} cannot be reached ({error}). Is the broker running, and can this machine reach its --listen?"
        )),
    }
}

fn admin_side(client: &Client) -> Finding {
    let url = client.endpoint();
    match client.ask(Request::get(READYZ), PATIENCE) {
        Ok(Answer { status: 200, .. }) => Finding::ok(format!("admin side: {url} is ready")),
        Ok(answer) if answer.status == 503 => {
            let readiness: Option<Readiness> = serde_json::from_slice(&answer.body).ok();
            let reason = readiness.and_then(|readiness| readiness.reason).unwrap_or_else(|| answer.text());
            Finding::warning(format!("admin side: {url} is not ready: {reason}"))
        }
        Ok(Answer { status, .. }) => Finding::failure(format!(
            "admin side: {url}{READYZ} answers {status}. Is --admin another address?"
        )),
        Err(error) => Finding::warning(format!(
            "admin side: {url} cannot be reached from here ({error}). Runs do not need it; operators do"
        )),
    }
}

/// Task code reaches the runner side, so a runner side that takes dispatches lets it send false runs.
fn runner_side_takes_no_dispatch(sides: &Sides) -> Finding {
    if sides.runner.endpoint() == sides.dispatch.endpoint() {
        return Finding::warning(
            "dispatches go to the runner side: task code reaches it too and could send false runs. Give the broker --dispatch-listen (or --dispatch-allow) and the supervisor TRIGGER_WARM_START_DISPATCH_URL",
        );
    }
    let key = Key { deployment: CANARY, version: CANARY_VERSION };
    match sides.runner.ask(key.dispatch("run_pilotlight-check_0"), PATIENCE) {
        Ok(Answer { status: 404 | 403, .. }) => Finding::ok("the runner side takes no dispatches from here"),
        Ok(Answer { status, .. }) => Finding::failure(format!(
            "the runner side answers a dispatch with {status}, although there is a dispatch side: task code can send false runs to runners. Start the broker with --dispatch-listen"
        )),
        Err(error) => Finding::failure(format!("the runner side does not answer a dispatch: {error}")),
    }
}

fn runner_side_has_no_admin(client: &Client) -> Finding {
    match client.ask(Request::get(STATUS), PATIENCE) {
        Ok(Answer { status: 404, .. }) => Finding::ok("the runner side serves no admin routes"),
        Ok(Answer { status, .. }) => Finding::failure(format!(
            "the runner side answers {STATUS} with {status}. Is there a proxy in front of the broker?"
        )),
        Err(error) => Finding::failure(format!("the runner side does not answer {STATUS}: {error}")),
    }
}

/// A canary runner polls, a canary supervisor dispatches.
fn one_run(sides: Sides) -> Finding {
    let Sides { runner, dispatch, .. } = sides;
    // Two checks at the same time have different keys.
    let version = format!("{CANARY_VERSION}-{}", std::process::id());
    let run = format!("run_pilotlight-check_{}", std::process::id());
    let key = Key { deployment: CANARY, version: &version };
    let poll = key.poll("pilotlight-check");
    // The runner reads while the supervisor waits: that is the proof of delivery.
    let runner = thread::spawn(move || runner.ask(poll, PATIENCE));
    let received = || runner.join().unwrap_or(Err(ClientError::Timeout(PATIENCE)));
    let began = Instant::now();
    let url = dispatch.endpoint();
    loop {
        let asked = Instant::now();
        let answer = match dispatch.ask(key.dispatch(&run), PATIENCE) {
            Ok(answer) => answer,
            Err(error) => {
                return Finding::failure(format!(
                    "dispatch side: {url} cannot be reached ({error}). Is TRIGGER_WARM_START_DISPATCH_URL this address, and does this command run where the supervisor runs?"
                ));
            }
        };
        match (answer.status, answer.text().contains("true")) {
            (200, true) => return delivered(received(), &run, asked.elapsed()),
            (200, false) if began.elapsed() < HELD_WITHIN => thread::sleep(RETRY_AFTER),
            (200, false) => return not_held(received()),
            (403, _) => {
                return Finding::warning(format!(
                    "a run, end to end: not tested, {url} takes no dispatches from this address (--dispatch-allow). Run this command where the supervisor runs"
                ));
            }
            (status, _) => {
                return Finding::failure(format!("dispatch side: {url} answers {status}: {}", answer.text()));
            }
        }
    }
}

fn delivered(received: Result<Answer, ClientError>, run: &str, took: Duration) -> Finding {
    match received {
        Ok(answer) if answer.status == 200 && answer.text().contains(run) => Finding::ok(format!(
            "a run, end to end: dispatched, received by a runner and confirmed in {} us",
            took.as_micros()
        )),
        Ok(Answer { status, .. }) => Finding::failure(format!(
            "a run, end to end: the broker confirmed it, but the runner got status {status}"
        )),
        Err(error) => Finding::failure(format!(
            "a run, end to end: the broker confirmed it, but the runner got nothing: {error}"
        )),
    }
}

fn not_held(received: Result<Answer, ClientError>) -> Finding {
    match received {
        Ok(answer) if answer.status == 401 => Finding::warning(format!(
            "a run, end to end: not tested, runners need a deployment token here (--token-mode enforce): {}",
            answer.text()
        )),
        Ok(answer) => Finding::failure(format!(
            "a run, end to end: the poll was answered {}: {}",
            answer.status,
            answer.text()
        )),
        Err(ClientError::Timeout(_)) => Finding::failure(
            "a run, end to end: a runner polls, and the dispatch does not find it. Do runner side and dispatch side belong to the same broker?",
        ),
        Err(error) => Finding::failure(format!(
            "a run, end to end: the broker did not hold the poll ({error}). It is shutting down or at a limit: see its log"
        )),
    }
}
