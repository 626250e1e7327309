//! `pilotlight check`: is a running broker there for runners, for supervisors and for operators, is each
//! kept where it belongs, and does a run reach a runner from end to end?

use super::Key;
use super::http::{Answer, Url};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// No real deployment's, so that no real runner and no real run is touched.
const CANARY: &str = "deployment_pilotlight-check";
const CANARY_VERSION: &str = "check";
/// Any answer but a held poll's.
const PATIENCE: Duration = Duration::from_secs(5);
/// The canary's poll may need a moment until it is held.
const HELD_WITHIN: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Where the broker's sides are.
pub struct Sides {
    /// As runners reach it.
    pub runner: Url,
    /// As supervisors reach it.
    pub dispatch: Url,
    /// As operators reach it.
    pub admin: Url,
}

impl Sides {
    /// From the URLs as typed.
    ///
    /// # Errors
    /// The one that can't be read.
    pub fn parse<'a>(runner: &'a str, dispatch: &'a str, admin: &'a str) -> Result<Sides, &'a str> {
        let url = |text: &'a str| Url::parse(text).ok_or(text);
        Ok(Sides { runner: url(runner)?, dispatch: url(dispatch)?, admin: url(admin)? })
    }
}

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Well,
    /// Works, and there is something to think about; or it could not be tried.
    Note,
    /// Does not work.
    Bad,
}

/// What one look found, and what to do.
#[derive(Debug)]
pub struct Finding {
    /// How to take it.
    pub verdict: Verdict,
    /// One line.
    pub text: String,
}

fn well(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Well, text: text.into() }
}

fn note(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Note, text: text.into() }
}

fn bad(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Bad, text: text.into() }
}

/// Looks at everything, in the order in which a mistake shows.
pub fn check(sides: &Sides) -> Vec<Finding> {
    let mut found = vec![runner_side(sides), admin_side(sides)];
    if found[0].verdict == Verdict::Bad {
        return found;
    }
    found.extend([separation(sides), admin_apart(sides), one_run(sides)]);
    found
}

fn get(url: &Url, path: &str) -> io::Result<Answer> {
    url.open(PATIENCE)?.ask(&format!("GET {path} HTTP/1.1\r\nHost: {url}\r\nConnection: close\r\n\r\n"))
}

fn runner_side(sides: &Sides) -> Finding {
    let url = &sides.runner;
    match get(url, "/connect") {
        Ok(Answer { status: 200, body }) if body.contains("connectionTimeoutMs") => {
            well(format!("runner side: http://{url} answers {body}"))
        }
        Ok(Answer { status, .. }) => bad(format!(
            "runner side: http://{url}/connect answers {status}, as no warm-start broker would: is TRIGGER_WARM_START_URL this address?"
        )),
        Err(error) => bad(format!(
            "runner side: http://{url} cannot be reached ({error}): is the broker running, and --listen an address that is reachable from here?"
        )),
    }
}

fn admin_side(sides: &Sides) -> Finding {
    let url = &sides.admin;
    match get(url, "/readyz") {
        Ok(Answer { status: 200, .. }) => well(format!("admin side: http://{url} says ready")),
        Ok(Answer { status: 503, body }) => {
            note(format!("admin side: http://{url} says not ready: {}", body.trim()))
        }
        Ok(Answer { status, .. }) => {
            bad(format!("admin side: http://{url}/readyz answers {status}: is --admin another address?"))
        }
        Err(error) => note(format!(
            "admin side: http://{url} cannot be reached from here ({error}); runs need it not, you do"
        )),
    }
}

/// May whoever reaches the runner side send runs to runners?
fn separation(sides: &Sides) -> Finding {
    if sides.runner == sides.dispatch {
        return note(
            "dispatches are sent to the runner side: task code reaches it too and could send false runs; give the broker --dispatch-listen (or --dispatch-allow) and the supervisor TRIGGER_WARM_START_DISPATCH_URL",
        );
    }
    match dispatched(&sides.runner, "run_pilotlight-check_0") {
        Ok(Answer { status: 404 | 403, .. }) => well("the runner side takes no dispatches from here"),
        Ok(Answer { status, .. }) => bad(format!(
            "the runner side answers a dispatch with {status}, though there is a dispatch side: task code can send false runs to runners; start the broker with --dispatch-listen"
        )),
        Err(error) => bad(format!("the runner side does not answer a dispatch: {error}")),
    }
}

fn admin_apart(sides: &Sides) -> Finding {
    match get(&sides.runner, "/status") {
        Ok(Answer { status: 404, .. }) => well("the runner side shows nothing of the admin side"),
        Ok(Answer { status, .. }) => {
            bad(format!("the runner side answers /status with {status}: something stands before the broker"))
        }
        Err(error) => bad(format!("the runner side does not answer /status: {error}")),
    }
}

fn dispatched(url: &Url, run: &str) -> io::Result<Answer> {
    let key = Key { deployment: CANARY, version: CANARY_VERSION };
    url.open(PATIENCE)?.ask(&key.dispatch(url, run))
}

/// A runner of our own waits, a supervisor of our own dispatches.
fn one_run(sides: &Sides) -> Finding {
    // One poll more than once in this second, by whomever, is two keys.
    let version = format!("{CANARY_VERSION}-{}", std::process::id());
    let key = Key { deployment: CANARY, version: &version };
    let run = format!("run_pilotlight-check_{}", std::process::id());
    let mut runner = match sides.runner.open(PATIENCE) {
        Ok(runner) => runner,
        Err(error) => return bad(format!("a run, end to end: the runner side cannot be reached: {error}")),
    };
    if let Err(error) = runner.send(&key.poll(&sides.runner, "pilotlight-check")) {
        return bad(format!("a run, end to end: the poll cannot be sent: {error}"));
    }
    // It reads while the supervisor waits: that is what is confirmed.
    let runner = thread::spawn(move || runner.answer());
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = match sides
            .dispatch
            .open(PATIENCE)
            .and_then(|mut open| open.ask(&key.dispatch(&sides.dispatch, &run)))
        {
            Ok(answer) => answer,
            Err(error) => {
                return bad(format!(
                    "dispatch side: http://{} cannot be reached ({error}): is TRIGGER_WARM_START_DISPATCH_URL this address, and are you where the supervisor is?",
                    sides.dispatch
                ));
            }
        };
        match (answer.status, answer.body.contains("true")) {
            (200, true) => return delivered(&received(runner), &run, asked.elapsed()),
            (200, false) if began.elapsed() < HELD_WITHIN => thread::sleep(AGAIN_AFTER),
            (200, false) => return not_held(&received(runner)),
            (403, _) => {
                return note(format!(
                    "a run, end to end: not tried, http://{} takes no dispatches from this address (--dispatch-allow): check from where the supervisor runs",
                    sides.dispatch
                ));
            }
            (status, _) => {
                return bad(format!(
                    "dispatch side: http://{} answers {status}: {}",
                    sides.dispatch,
                    answer.body.trim()
                ));
            }
        }
    }
}

/// What the canary's runner got.
fn received(runner: JoinHandle<io::Result<Answer>>) -> io::Result<Answer> {
    runner.join().unwrap_or_else(|_| Err(io::Error::other("the runner's thread has ended")))
}

fn delivered(received: &io::Result<Answer>, run: &str, took: Duration) -> Finding {
    match received {
        Ok(Answer { status: 200, body }) if body.contains(run) => well(format!(
            "a run, end to end: dispatched, received by a runner and confirmed in {} us",
            took.as_micros()
        )),
        Ok(Answer { status, .. }) => {
            bad(format!("a run, end to end: confirmed, but the runner got {status}"))
        }
        Err(error) => bad(format!("a run, end to end: confirmed, but the runner got nothing: {error}")),
    }
}

fn not_held(received: &io::Result<Answer>) -> Finding {
    match received {
        Ok(Answer { status: 401, body }) => note(format!(
            "a run, end to end: not tried, runners need a deployment token here (--token-mode enforce): {}",
            body.trim()
        )),
        Ok(Answer { status, body }) => {
            bad(format!("a run, end to end: the poll was answered {status}: {}", body.trim()))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => bad(
            "a run, end to end: a runner waits, and the dispatch does not find it: are runner and dispatch side the same broker's?",
        ),
        Err(error) => bad(format!(
            "a run, end to end: the poll was not held ({error}): the broker drains, or is at a limit; see its log"
        )),
    }
}
