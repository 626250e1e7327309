//! `pilotlight bench`: an open loop of runs at a fixed rate to a running broker, with its own runners and supervisors.
//! Each latency counts from the moment at which its run was due.

mod crowd;
mod flags;
mod reading;
mod schedule;
mod table;
mod target;

pub use flags::{BenchFlags, EXAMPLES};

use super::Failure;
use super::output::print;
use crate::sys::{descriptors::Descriptors, wait};
use crowd::{Crowd, Event, Plan};
use hdrhistogram::Histogram;
use schedule::{Schedule, Tally};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use table::Progress;
use target::Target;

/// Runners connect in groups of this size, so that the accept queue holds them.
const GROUP: usize = 100;
const BETWEEN_GROUPS: Duration = Duration::from_millis(10);
/// All polls must be sent within this time.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// Time for the broker to hold the last polls.
const HELD_AFTER: Duration = Duration::from_millis(200);
/// After the last dispatch, the load gives up on open runs if no run is delivered or answered for this long. Longer
/// than the broker's --dispatch-timeout.
const SILENCE: Duration = Duration::from_secs(4);
/// After the last dispatch, the load gives up on open runs after this time at the latest.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// The longest wait between two updates of the progress line.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// The load keeps a few bytes for each run until it ends.
const RUNS_MAX: f64 = 20_000_000.0;
/// Descriptors that are not the load's connections.
const DESCRIPTORS_RESERVED: usize = 32;

/// Why there is no measurement, or the errors that it found.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("{0:?} is not the URL of a broker. Use http://HOST:PORT")]
    Url(String),
    #[error(
        "{url} is {addr}, another machine: a load takes processor time and connections from real runs there. Add --allow-remote to load it anyway"
    )]
    Remote { url: super::client::Endpoint, addr: std::net::SocketAddr },
    #[error(
        "--rate {rate} for {seconds} s is more than {RUNS_MAX} runs. Use a lower --rate or a shorter --for"
    )]
    Runs { rate: f64, seconds: f64 },
    #[error(
        "--runners {runners} and --supervisors {supervisors}: the limit of open files allows {room} connections. Raise it (ulimit -n) or use fewer"
    )]
    Descriptors { runners: usize, supervisors: usize, room: usize },
    #[error("{url} cannot be reached: {cause}. Is the broker running, and is this its {side}?")]
    Unreachable { url: super::client::Endpoint, side: &'static str, cause: String },
    /// The server is not a broker, or refuses the load.
    #[error("{0}")]
    Refused(String),
    #[error("{polling} of {runners} runners could poll within {} s. See the broker's log for limits", OPENED_WITHIN.as_secs())]
    Opening { polling: usize, runners: usize },
    #[error("the load cannot run: {0}")]
    Io(#[from] io::Error),
    /// The measurement is complete, and runs were lost, doubled or not answered.
    #[error("{0}. See docs/guarantees.md for what the broker promises, and its log")]
    Broken(String),
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        match error {
            BenchError::Url(_) | BenchError::Remote { .. } | BenchError::Runs { .. } => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

struct Report {
    tally: Tally,
    to_answer: Histogram<u64>,
    to_runner: Histogram<u64>,
    /// From due to sent: the delay that this machine, or too few supervisors, added.
    to_sent: Histogram<u64>,
    polls_ended: u64,
}

/// Loads a broker as `flags` say and prints the table. Also fails if runs were lost, doubled or not answered.
pub fn run(flags: &BenchFlags) -> Result<(), Failure> {
    let bounds = Bounds::check(flags)?;
    let target = Target::find(flags)?;
    let deployments = deployments(flags.keys.0);
    let connection_timeout = target.connection_timeout()?;
    target.takes_dispatches(&deployments[0])?;
    let plan = Plan {
        runner_side: target.runner_addr,
        dispatch_side: target.dispatch_addr,
        deployments,
        poll_timeout: flags.poll_timeout.map_or(connection_timeout, |time| Duration::from_millis(time.0)),
        work: Duration::from_millis(flags.work.0),
        message_bytes: flags.message_bytes.0,
    };
    let mut crowd = Crowd::new(plan).map_err(BenchError::from)?;
    print(&format!(
        "{} runs/s for {} to {target}: {} runners of {} deployments, {} supervisors",
        flags.rate.0,
        humantime::format_duration(bounds.time),
        flags.runners.0,
        flags.keys.0,
        flags.supervisors.0
    ))?;
    wait::reduce_timer_slack();
    open(&mut crowd, flags)?;
    let report = load(&mut crowd, flags.rate.0, &bounds)?;
    print(&table::written(&report))?;
    match broken(&report.tally) {
        Some(what) => Err(BenchError::Broken(what).into()),
        None => Ok(()),
    }
}

struct Bounds {
    warm_up: Duration,
    time: Duration,
}

impl Bounds {
    fn check(flags: &BenchFlags) -> Result<Bounds, BenchError> {
        let [warm_up, time] = [flags.warm_up, flags.time].map(|time| Duration::from_millis(time.0));
        let seconds = (warm_up + time).as_secs_f64();
        if seconds * flags.rate.0 > RUNS_MAX {
            return Err(BenchError::Runs { rate: flags.rate.0, seconds });
        }
        let room = Descriptors::raise()?.connections_max(DESCRIPTORS_RESERVED);
        let (runners, supervisors) = (flags.runners.0, flags.supervisors.0);
        match runners.saturating_add(supervisors) > room {
            true => Err(BenchError::Descriptors { runners, supervisors, room }),
            false => Ok(Bounds { warm_up, time }),
        }
    }
}

/// Deployment names that are unique to this load, so no real runner can get its runs.
fn deployments(count: usize) -> Vec<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The process id separates loads that start in the same microsecond.
    let unique = now.as_micros() as u64 ^ u64::from(std::process::id()).rotate_left(40);
    (0..count).map(|number| format!("deployment_bench-{unique:x}-{number}")).collect()
}

/// The error of an answer that makes a real runner exit.
fn refusal(event: &Event) -> Option<BenchError> {
    let Event::Refused(status, body) = event else { return None };
    let advice = match status {
        401 => {
            "runners need a deployment token here (--token-mode enforce), and the load has none. Start a broker with --token-mode off for it"
        }
        _ => body.trim(),
    };
    Some(BenchError::Refused(format!("a poll was answered {status}: {advice}")))
}

/// Connects all supervisors and runners, and waits until all polls are sent.
fn open(crowd: &mut Crowd, flags: &BenchFlags) -> Result<(), BenchError> {
    let began = Instant::now();
    let mut refused = None;
    let mut note = |event: Event| refused = refused.take().or_else(|| refusal(&event));
    for _ in 0..flags.supervisors.0 {
        crowd.add_supervisor()?;
    }
    while crowd.runners() < flags.runners.0 {
        for _ in 0..GROUP.min(flags.runners.0 - crowd.runners()) {
            crowd.add_runner()?;
        }
        turn_for(crowd, BETWEEN_GROUPS, &mut note)?;
    }
    while crowd.polling() < flags.runners.0 && began.elapsed() < OPENED_WITHIN {
        crowd.turn(BETWEEN_GROUPS, &mut note)?;
    }
    turn_for(crowd, HELD_AFTER, &mut note)?;
    match (refused, crowd.polling()) {
        (Some(refused), _) => Err(refused),
        (None, polling) if polling == flags.runners.0 => Ok(()),
        (None, polling) => Err(BenchError::Opening { polling, runners: flags.runners.0 }),
    }
}

fn turn_for(crowd: &mut Crowd, time: Duration, note: &mut impl FnMut(Event)) -> io::Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        crowd.turn(left, note)?;
    }
    Ok(())
}

/// Dispatches at the rate until the time is over, then waits for open runs.
fn load(crowd: &mut Crowd, rate: f64, bounds: &Bounds) -> Result<Report, BenchError> {
    let mut schedule = Schedule::new(rate, bounds.warm_up, bounds.time);
    let mut to_sent = schedule.to_answer.clone();
    let mut progress = Progress::new(schedule.end);
    let mut refused = None;
    let mut late = VecDeque::new();
    let mut next = 0;
    let mut settling = None;
    let mut last_event = Instant::now();
    while refused.is_none() {
        let now = Instant::now();
        while next < schedule.end && schedule.due(next) <= now {
            late.push_back(next);
            next += 1;
        }
        while crowd.has_idle_supervisor()
            && let Some(run) = late.pop_front()
        {
            if run >= schedule.first {
                to_sent.saturating_record(schedule.late_ns(run, Instant::now()));
            }
            crowd.dispatch(run);
        }
        let sleep = if next < schedule.end {
            schedule.due(next).saturating_duration_since(now).min(PROGRESS_INTERVAL)
        } else {
            let ended = *settling.get_or_insert(now);
            let silent = last_event.max(ended).elapsed() > SILENCE || ended.elapsed() > SETTLED_WITHIN;
            if silent || (late.is_empty() && schedule.is_settled()) {
                break;
            }
            BETWEEN_GROUPS
        };
        crowd.turn(sleep, &mut |event| {
            let now = Instant::now();
            last_event = now;
            match event {
                Event::Delivered(run) => schedule.note_delivered(run, now),
                Event::Answered(run, outcome) => {
                    progress.note(outcome);
                    schedule.note_answered(run, outcome, now);
                }
                Event::Refused(..) => refused = refusal(&event),
            }
        })?;
        progress.show(next, &schedule.to_answer);
    }
    progress.clear();
    match refused {
        Some(refused) => Err(refused),
        None => Ok(Report {
            tally: schedule.tally(),
            to_answer: schedule.to_answer,
            to_runner: schedule.to_runner,
            to_sent,
            polls_ended: crowd.ended,
        }),
    }
}

/// The errors that a correct broker never makes, in words.
fn broken(tally: &Tally) -> Option<String> {
    let counts = [
        (tally.failed, "not answered with true or false"),
        (tally.lost, "lost: answered true, and no runner got them"),
        (tally.doubled, "doubled: more than one runner got them"),
    ];
    let broken: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} runs {what}"))
        .collect();
    (!broken.is_empty()).then(|| broken.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_unanswered_runs_are_named() {
        assert_eq!(broken(&Tally { dispatched: 9, warm: 4, cold: 5, unproved: 1, ..Tally::default() }), None);
        let bad = Tally { failed: 2, lost: 1, ..Tally::default() };
        assert_eq!(
            broken(&bad).as_deref(),
            Some(
                "2 runs not answered with true or false; 1 runs lost: answered true, and no runner got them"
            )
        );
    }

    #[test]
    fn deployments_are_unique() {
        let names = deployments(2);
        assert!(names[0].starts_with("deployment_bench-") && names[0].ends_with("-0"), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
