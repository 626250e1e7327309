//! `pilotlight bench`: runs at a fixed rate to a running broker, by runners and supervisors of its own, and how
//! long each took from the moment at which it was due.

mod crowd;
mod reading;
mod schedule;
mod table;

use super::Key;
use super::http::{Answer, Url};
use crate::cli::BenchFlags;
use crate::sys::{descriptors::Descriptors, wait};
use crowd::{Crowd, Event, Plan};
use hdrhistogram::Histogram;
use schedule::{Schedule, Tally};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use table::Progress;

/// Any answer but a held poll's.
const PATIENCE: Duration = Duration::from_secs(5);
/// Runners connect in groups, this many every so often, so that the accept queue holds them.
const GROUP: usize = 100;
const BETWEEN_GROUPS: Duration = Duration::from_millis(10);
/// All polls are to be sent within this.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// What the broker gets to take the last polls in.
const HELD_AFTER: Duration = Duration::from_millis(200);
/// What is still open at the end is waited for until nothing has come for this long, which is more than the broker's
/// --dispatch-timeout.
const SILENCE: Duration = Duration::from_secs(4);
/// And no longer than this in all.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// The longest sleep: the progress is to be seen.
const GLANCE: Duration = Duration::from_millis(200);
/// What is remembered of each run is small, and it is remembered to the end.
const RUNS_MAX: f64 = 20_000_000.0;
/// Descriptors for everything that is no connection.
const DESCRIPTORS_RESERVED: usize = 32;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No URL of a broker.
    #[error("{0:?} is no URL of a broker: write http://HOST:PORT")]
    Url(String),
    /// Another machine's.
    #[error(
        "http://{url} is {addr}, not this machine: a load takes processor time and connections from real runs there; add --allow-remote if you mean it"
    )]
    Remote {
        /// As typed.
        url: Url,
        /// What it stands for.
        addr: SocketAddr,
    },
    /// More than it can remember.
    #[error(
        "--rate {rate} for {seconds} s is more than {RUNS_MAX} runs: give it a lower --rate or a shorter --for"
    )]
    Runs {
        /// Per second.
        rate: f64,
        /// Warm-up and measurement.
        seconds: f64,
    },
    /// More than may be open.
    #[error(
        "--runners {runners} and --supervisors {supervisors}: the limit of open files leaves room for {room}: raise it (ulimit -n) or take fewer"
    )]
    Descriptors {
        /// Asked for.
        runners: usize,
        /// Asked for.
        supervisors: usize,
        /// There is.
        room: usize,
    },
    /// Nobody there.
    #[error("http://{url} cannot be reached: {source}: is the broker running, and is this its {side}?")]
    Unreachable {
        /// Where.
        url: Url,
        /// `--listen` or `--dispatch-listen`.
        side: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// Somebody else there, or one who does not want us.
    #[error("{0}")]
    Unfit(String),
    /// The runners' connections.
    #[error("{polling} of {runners} runners could poll within {} s: see the broker's log for limits", OPENED_WITHIN.as_secs())]
    Opening {
        /// Those that could.
        polling: usize,
        /// All.
        runners: usize,
    },
    /// Sockets.
    #[error("the load cannot be made: {0}")]
    Io(#[from] io::Error),
    /// It was measured, and it is not as it should be.
    #[error("{0}: see docs/guarantees.md for what is promised, and the broker's log")]
    Broken(String),
}

/// What was measured.
struct Report {
    tally: Tally,
    to_answer: Histogram<u64>,
    to_runner: Histogram<u64>,
    /// From due to sent: what this machine, or too few supervisors, added.
    to_sent: Histogram<u64>,
    polls_ended: u64,
}

/// Loads a broker as `flags` say and prints what it did.
///
/// # Errors
/// Nothing could be measured; or runs were lost, doubled or not answered.
pub fn run(flags: &BenchFlags) -> Result<(), BenchError> {
    let url = |text: &String| Url::parse(text).ok_or_else(|| BenchError::Url(text.clone()));
    let runner_url = url(&flags.url)?;
    let dispatch_url = flags.dispatch_url.as_ref().map_or_else(|| Ok(runner_url.clone()), url)?;
    let bounds = Bounds::check(flags)?;
    let runner_side = address(&runner_url, "--listen", flags.allow_remote)?;
    let dispatch_side = address(&dispatch_url, "--dispatch-listen", flags.allow_remote)?;
    let deployments = deployments(flags.keys.0);
    let told = connect_told(&runner_url)?;
    dispatch_taken(&dispatch_url, &deployments[0])?;
    let mut crowd = Crowd::new(Plan {
        runner_side,
        dispatch_side,
        deployments,
        poll_timeout: flags.poll_timeout.map_or(told, |time| Duration::from_millis(time.0)),
        work: Duration::from_millis(flags.work.0),
        message_bytes: flags.message_bytes.0,
    })?;
    println!(
        "{} runs a second for {} to http://{runner_url}{}: {} runners of {} deployments, {} supervisors",
        flags.rate.0,
        humantime::format_duration(bounds.time),
        if dispatch_url == runner_url { String::new() } else { format!(" and http://{dispatch_url}") },
        flags.runners.0,
        flags.keys.0,
        flags.supervisors.0
    );
    wait::sharpen_timers();
    open(&mut crowd, flags)?;
    let report = load(&mut crowd, flags.rate.0, &bounds)?;
    println!("{}", table::written(&report));
    broken(&report.tally).map_or(Ok(()), |what| Err(BenchError::Broken(what)))
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

/// Names that no deployment of Trigger.dev has, and no other bench: no real runner can get these runs.
fn deployments(count: usize) -> Vec<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Microseconds, and processes that start within the same one.
    let unique = now.as_micros() as u64 ^ u64::from(std::process::id()).rotate_left(40);
    (0..count).map(|number| format!("deployment_bench-{unique:x}-{number}")).collect()
}

fn address(url: &Url, side: &'static str, allow_remote: bool) -> Result<SocketAddr, BenchError> {
    let unreachable = |source| BenchError::Unreachable { url: url.clone(), side, source };
    let addresses = url.addresses().map_err(unreachable)?;
    let remote = addresses.iter().find(|addr| !addr.ip().to_canonical().is_loopback());
    if let Some(&addr) = remote.filter(|_| !allow_remote) {
        return Err(BenchError::Remote { url: url.clone(), addr });
    }
    url.open(PATIENCE).and_then(|open| open.peer()).map_err(unreachable)
}

/// How long polls are held, as `/connect` tells runners.
fn connect_told(url: &Url) -> Result<Duration, BenchError> {
    let asked = format!("GET /connect HTTP/1.1\r\nHost: {url}\r\nConnection: close\r\n\r\n");
    let answer = url.open(PATIENCE).and_then(|mut open| open.ask(&asked));
    let Answer { status, body } =
        answer.map_err(|source| BenchError::Unreachable { url: url.clone(), side: "--listen", source })?;
    let told = body.split_once(r#""connectionTimeoutMs":"#).and_then(|(_, rest)| {
        let digits = rest.split(|next: char| !next.is_ascii_digit()).next()?;
        digits.parse().ok().filter(|millis| *millis > 0)
    });
    match told {
        Some(millis) if status == 200 => Ok(Duration::from_millis(millis)),
        _ => Err(BenchError::Unfit(format!(
            "http://{url}/connect answers {status}, as no warm-start broker's runner side would: give the address of --listen"
        ))),
    }
}

fn dispatch_taken(url: &Url, deployment: &str) -> Result<(), BenchError> {
    let key = Key { deployment, version: "nobody-waits" };
    let answer = url.open(PATIENCE).and_then(|mut open| open.ask(&key.dispatch(url, "run_bench")));
    let Answer { status, body } = answer.map_err(|source| BenchError::Unreachable {
        url: url.clone(),
        side: "--dispatch-listen",
        source,
    })?;
    let what_to_do = match status {
        200 => return Ok(()),
        403 => {
            "it takes no dispatches from this address (--dispatch-allow): run this where the supervisor runs"
        }
        404 => "dispatches are taken elsewhere: give the address of --dispatch-listen as --dispatch-url",
        _ => body.trim(),
    };
    Err(BenchError::Unfit(format!("http://{url} answers a dispatch with {status}: {what_to_do}")))
}

/// What a runner was answered that makes a real one exit.
fn refusal(event: &Event) -> Option<BenchError> {
    let Event::Refused(status, body) = event else { return None };
    let what_to_do = match status {
        401 => {
            "runners need a deployment token here (--token-mode enforce), and this has none: start a broker without for it"
        }
        _ => body.trim(),
    };
    Some(BenchError::Unfit(format!("a poll was answered {status}: {what_to_do}")))
}

/// Connects everybody and waits until all polls are sent.
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

/// Dispatches at the rate until the time is over, then waits for what is open.
fn load(crowd: &mut Crowd, rate: f64, bounds: &Bounds) -> Result<Report, BenchError> {
    let mut schedule = Schedule::new(rate, bounds.warm_up, bounds.time);
    let mut to_sent = schedule.to_answer.clone();
    let mut progress = Progress::new(schedule.end);
    let mut refused = None;
    let mut late = VecDeque::new();
    let mut next = 0;
    let mut settling = None;
    let mut heard = Instant::now();
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
            schedule.due(next).saturating_duration_since(now).min(GLANCE)
        } else {
            let ended = *settling.get_or_insert(now);
            let silent = heard.max(ended).elapsed() > SILENCE || ended.elapsed() > SETTLED_WITHIN;
            if silent || (late.is_empty() && schedule.is_settled()) {
                break;
            }
            BETWEEN_GROUPS
        };
        crowd.turn(sleep, &mut |event| {
            let now = Instant::now();
            heard = now;
            match event {
                Event::Delivered(run) => schedule.note_delivered(run, now),
                Event::Answered(run, verdict) => {
                    progress.note(verdict);
                    schedule.note_answered(run, verdict, now);
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

/// What must not be.
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
    fn another_machine_is_not_loaded_by_mistake() {
        let url = Url::parse("http://192.0.2.1:8040").unwrap();
        assert!(matches!(address(&url, "--listen", false), Err(BenchError::Remote { .. })));
    }

    #[test]
    fn what_must_not_be_is_named() {
        assert_eq!(
            broken(&Tally { dispatched: 9, hits: 4, misses: 5, unproved: 1, ..Tally::default() }),
            None
        );
        let bad = Tally { failed: 2, lost: 1, ..Tally::default() };
        assert_eq!(
            broken(&bad).as_deref(),
            Some(
                "2 runs not answered with true or false; 1 runs lost: answered true, and no runner got them"
            )
        );
    }

    #[test]
    fn its_deployments_are_nobodys() {
        let names = deployments(2);
        assert!(names[0].starts_with("deployment_bench-") && names[0].ends_with("-0"), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
