//! Runners and supervisors that retry and exit like the real ones while a broker is replaced.

use super::http::{CONNECT, End, Outcome, PATIENCE, Poller, Response, Run, Supervisor, read_response};
use super::support::lock;
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a runner holds a poll, as in the broker's --connection-timeout.
const POLL: Duration = Duration::from_secs(1);
/// Client libraries close a connection that was idle for longer.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The clients, and what happened to them.
pub struct Fleet {
    broker: SocketAddr,
    ended: AtomicBool,
    /// How often each run was received completely.
    received: Mutex<HashMap<String, u32>>,
    /// Runs whose dispatch was answered true.
    delivered: Mutex<Vec<String>>,
    runs: AtomicU32,
    /// Runners that would have exited: a status other than 2xx, or three failed /connect.
    pub lost: AtomicU32,
    /// Polls that ended without an answer and were repeated.
    pub retries: AtomicU32,
    /// Dispatches without a proper answer.
    pub failed: AtomicU32,
    pub answered_true: AtomicU32,
    pub answered_false: AtomicU32,
    slowest: Mutex<Duration>,
    /// When each runner's last poll began.
    last_polls: Mutex<HashMap<usize, Instant>>,
}

impl Fleet {
    pub fn new(broker: SocketAddr) -> Fleet {
        Fleet {
            broker,
            ended: AtomicBool::new(false),
            received: Mutex::default(),
            delivered: Mutex::default(),
            runs: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            retries: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            answered_true: AtomicU32::new(0),
            answered_false: AtomicU32::new(0),
            slowest: Mutex::default(),
            last_polls: Mutex::default(),
        }
    }

    /// Runs `runners` and `supervisors` of four deployments during `work`.
    pub fn run(&self, runners: usize, supervisors: usize, work: impl FnOnce()) {
        thread::scope(|scope| {
            let deployment = |index: usize| format!("deployment_fleet_{}", index % 4);
            for index in 0..runners {
                scope.spawn(move || self.runner(index, &deployment(index)));
            }
            for index in 0..supervisors {
                scope.spawn(move || self.supervisor(&deployment(index)));
            }
            let _ends = Ends(&self.ended);
            work();
        });
    }

    /// The number of runs answered true and not received, and of runs received twice.
    pub fn lost_and_doubled(&self) -> (usize, usize) {
        let received = lock(&self.received);
        let lost = lock(&self.delivered).iter().filter(|run| !received.contains_key(*run)).count();
        (lost, received.values().filter(|&&times| times > 1).count())
    }

    /// Runners that have polled since `instant`.
    pub fn polled_since(&self, instant: Instant) -> usize {
        lock(&self.last_polls).values().filter(|&&at| at > instant).count()
    }

    pub fn slowest(&self) -> Duration {
        *lock(&self.slowest)
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn runner(&self, index: usize, deployment: &str) {
        if !self.connects() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut kept: Option<(TcpStream, Instant)> = None;
        let mut pause = FIRST_PAUSE;
        while !self.ended() {
            lock(&self.last_polls).insert(index, Instant::now());
            let reusable = kept.take().filter(|(_, since)| since.elapsed() < IDLE_MAX);
            let stream = match reusable.map(|(stream, _)| stream).filter(is_open) {
                Some(stream) => Ok(stream),
                None => TcpStream::connect_timeout(&self.broker, POLL),
            };
            let (response, stream) = match stream.and_then(|stream| self.poll(stream, deployment)) {
                Ok(polled) => polled,
                Err(_) => (Response::nothing(End::Reset), None),
            };
            match response.end {
                End::Complete if response.status == 200 => {
                    *lock(&self.received).entry(run_id(&response)).or_default() += 1;
                    kept = stream.filter(|_| !response.close).map(|stream| (stream, Instant::now()));
                    pause = FIRST_PAUSE;
                    // Executes the run.
                    thread::sleep(Duration::from_millis(3));
                }
                End::Complete => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // The client's own timeout: it drops the connection and polls again immediately.
                End::Silent => pause = FIRST_PAUSE,
                End::Closed | End::Reset => {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// `/connect`, at most three times, like the client.
    fn connects(&self) -> bool {
        (0..3).any(|attempt| {
            thread::sleep(Duration::from_millis(200 * attempt));
            let Ok(mut stream) = TcpStream::connect_timeout(&self.broker, POLL) else { return false };
            stream.write_all(CONNECT).is_ok() && read_response(&stream, PATIENCE).status == 200
        })
    }

    fn poll(&self, stream: TcpStream, deployment: &str) -> std::io::Result<(Response, Option<TcpStream>)> {
        stream.set_nodelay(true)?;
        let Some(poller) = Poller::try_on(stream, deployment) else {
            return Ok((Response::nothing(End::Reset), None));
        };
        let response = read_response(&poller.stream, POLL);
        Ok((response, Some(poller.stream)))
    }

    /// Dispatches again as soon as it has an answer. If a broker closes an idle connection unannounced, a
    /// request is likely to cross the close.
    fn supervisor(&self, deployment: &str) {
        let mut kept: Option<(Supervisor, Instant)> = None;
        while !self.ended() {
            let name = format!("run_{}", self.runs.fetch_add(1, Ordering::Relaxed));
            let run = Run::named(deployment, &name, 1_500);
            let reusable = kept.take().filter(|(_, since)| since.elapsed() < IDLE_MAX);
            let connection = match reusable.map(|(kept, _)| kept).filter(|kept| is_open(&kept.stream)) {
                Some(supervisor) => Some(supervisor),
                None => TcpStream::connect_timeout(&self.broker, PATIENCE).ok().map(Supervisor::on),
            };
            let Some(mut supervisor) = connection else {
                self.failed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let answer = supervisor.dispatch(&run);
            let mut slowest = lock(&self.slowest);
            *slowest = slowest.max(answer.took);
            drop(slowest);
            match answer.outcome {
                Outcome::True => {
                    self.answered_true.fetch_add(1, Ordering::Relaxed);
                    lock(&self.delivered).push(name);
                }
                Outcome::False => _ = self.answered_false.fetch_add(1, Ordering::Relaxed),
                _ => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            }
            if matches!(answer.outcome, Outcome::True | Outcome::False) && !answer.close {
                kept = Some((supervisor, Instant::now()));
            }
        }
    }
}

/// Sets a flag when dropped, also if a test fails.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(800);

/// Neither FIN nor reset has arrived. A client's pool checks this before it reuses a connection.
fn is_open(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let open = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    let _ = stream.set_nonblocking(false);
    open
}

fn run_id(response: &Response) -> String {
    let message: serde_json::Value = serde_json::from_slice(&response.body).expect("a run is JSON");
    message["run"]["friendlyId"].as_str().expect("a run has a name").to_owned()
}
