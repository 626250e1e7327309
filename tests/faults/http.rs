//! Requests and responses of runners and supervisors, on bare sockets, so that the test decides when each
//! end reads, writes and closes.

pub use super::support::PATIENCE;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The version of every key. Only the deployment differs between keys.
pub const VERSION: &str = "20261122.1";

/// A poll.
pub fn poll_request(deployment: &str, controller: &str, node: &str) -> Vec<u8> {
    format!(
        "GET /warm-start HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\naccept: */*\r\n\
         x-trigger-workload-controller-id: {controller}\r\n\
         x-trigger-deployment-id: {deployment}\r\n\
         x-trigger-deployment-version: {VERSION}\r\n\
         x-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 0.5\r\n\
         x-trigger-worker-instance-name: {node}\r\n\r\n"
    )
    .into_bytes()
}

/// A `GET /connect`.
pub const CONNECT: &[u8] = b"GET /connect HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\n\r\n";

/// A run to dispatch.
#[derive(Clone)]
pub struct Run {
    /// The DequeuedMessage, which a runner must receive byte for byte.
    pub message: Vec<u8>,
}

impl Run {
    /// A run of the usual size.
    pub fn new(deployment: &str) -> Run {
        Run::sized(deployment, 1_500)
    }

    /// A run whose message has `bytes` bytes, or the minimum.
    pub fn sized(deployment: &str, bytes: usize) -> Run {
        Run::named(deployment, "run_1", bytes)
    }

    /// A run with a name.
    pub fn named(deployment: &str, run: &str, bytes: usize) -> Run {
        let message = |padding: usize| {
            format!(
                "{{\"version\":\"1\",\"snapshot\":{{\"id\":\"snap_1\",\"executionStatus\":\"PENDING_EXECUTING\"}},\
                 \"dequeuedAt\":\"2026-11-22T00:00:00.000Z\",\"image\":\"registry/image:1\",\
                 \"completedWaitpoints\":[{{\"id\":\"wp_1\",\"output\":\"{}\"}}],\
                 \"backgroundWorker\":{{\"id\":\"worker_1\",\"version\":\"{VERSION}\"}},\
                 \"deployment\":{{\"id\":\"d_1\",\"friendlyId\":\"{deployment}\"}},\
                 \"run\":{{\"id\":\"r_1\",\"friendlyId\":\"{run}\",\"machine\":{{\"name\":\"small-1x\",\
                 \"cpu\":0.5,\"memory\":0.5,\"centsPerMs\":0.1}},\"attemptNumber\":1}},\
                 \"environment\":{{\"id\":\"e_1\",\"type\":\"PRODUCTION\"}},\"organization\":{{\"id\":\"o_1\"}},\
                 \"project\":{{\"id\":\"p_1\"}}}}",
                "x".repeat(padding)
            )
        };
        let least = message(0).len();
        Run { message: message(bytes.saturating_sub(least)).into_bytes() }
    }

    /// The dispatch that carries the run.
    pub fn request(&self) -> Vec<u8> {
        let length = self.message.len() + "{\"dequeuedMessage\":}".len();
        let mut request = format!(
            "POST /warm-start HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{{\"dequeuedMessage\":"
        )
        .into_bytes();
        request.extend_from_slice(&self.message);
        request.push(b'}');
        request
    }
}

/// Why reading from a connection stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response was complete.
    Complete,
    /// The time was over.
    Silent,
    /// A FIN, before a response or in the middle of one.
    Closed,
    /// A reset, or another error.
    Reset,
}

/// A response, or the part of it that arrived.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// It has `Connection: close`.
    pub close: bool,
    pub body: Vec<u8>,
    /// All bytes, head included.
    pub bytes: usize,
    pub end: End,
}

impl Response {
    /// No response: just how reading ended.
    pub fn nothing(end: End) -> Response {
        Response { status: 0, close: false, body: Vec::new(), bytes: 0, end }
    }

    /// Whether this is the whole run.
    pub fn is(&self, run: &Run) -> bool {
        self.end == End::Complete && self.status == 200 && self.body == run.message
    }

    /// The part of `run` that arrived, in words.
    pub fn of(&self, run: &Run) -> String {
        match self.end {
            _ if self.is(run) => "the run".to_owned(),
            End::Complete => format!("status {}", self.status),
            _ if self.bytes > 0 => format!("{} of {} bytes", self.body.len(), run.message.len()),
            End::Silent => "nothing".to_owned(),
            End::Closed => "nothing (closed)".to_owned(),
            End::Reset => "nothing (reset)".to_owned(),
        }
    }
}

/// Reads one response, or the part of it that arrives in time.
pub fn read_response(mut stream: &TcpStream, within: Duration) -> Response {
    let until = Instant::now() + within;
    let mut input = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    let end = loop {
        if complete(&input) {
            break End::Complete;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break End::Silent;
        }
        stream.set_read_timeout(Some(left)).expect("a read timeout");
        match stream.read(&mut buffer) {
            Ok(0) => break End::Closed,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break End::Silent;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break End::Reset,
        }
    };
    parse(&input, end)
}

/// Reads one response in steps of `step_bytes` with a pause after each.
pub fn read_slowly(mut stream: &TcpStream, step_bytes: usize, pause: Duration) -> Response {
    let mut input = Vec::new();
    let mut buffer = vec![0; step_bytes];
    let end = loop {
        if complete(&input) {
            break End::Complete;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break End::Closed,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(_) => break End::Reset,
        }
        std::thread::sleep(pause);
    };
    parse(&input, end)
}

/// Reads the bytes that have arrived, without waiting.
pub fn read_now(mut stream: &TcpStream) -> Response {
    stream.set_nonblocking(true).expect("non-blocking");
    let mut input = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if complete(&input) {
            break End::Complete;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break End::Closed,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break End::Silent,
            Err(_) => break End::Reset,
        }
    };
    stream.set_nonblocking(false).expect("blocking");
    parse(&input, end)
}

/// The response of which these bytes arrived.
pub fn response_of(input: &[u8], end: End) -> Response {
    parse(input, end)
}

/// Whether these bytes are a whole response.
pub fn is_complete(input: &[u8]) -> bool {
    complete(input)
}

fn head(input: &[u8]) -> Option<(usize, &str)> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    Some((end, std::str::from_utf8(&input[..end]).expect("an ASCII head")))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn length(head: &str) -> usize {
    field(head, "content-length").expect("a Content-Length").parse().expect("a number")
}

fn complete(input: &[u8]) -> bool {
    head(input).is_some_and(|(end, head)| input.len() >= end + length(head))
}

fn parse(input: &[u8], end: End) -> Response {
    let Some((head_end, head)) = head(input) else {
        return Response { bytes: input.len(), ..Response::nothing(end) };
    };
    assert!(input.len() <= head_end + length(head), "more than a response: {}", input.len());
    Response {
        status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line"),
        close: field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        body: input[head_end..].to_vec(),
        bytes: input.len(),
        end,
    }
}

/// A runner's connection with a poll on it.
pub struct Poller {
    pub stream: TcpStream,
}

impl Poller {
    /// Polls on `stream`.
    pub fn on(stream: TcpStream, deployment: &str) -> Poller {
        Poller::try_on(stream, deployment).expect("to poll")
    }

    /// Polls on `stream`; `None` if it is not open any more.
    pub fn try_on(mut stream: TcpStream, deployment: &str) -> Option<Poller> {
        stream.write_all(&poll_request(deployment, "controller_1", "node_1")).ok()?;
        Some(Poller { stream })
    }

    /// Reads the response, then closes the connection.
    pub fn receive(self, within: Duration) -> Response {
        read_response(&self.stream, within)
    }

    /// The runner's port, which identifies the connection on the wire.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("an address").port()
    }
}

/// The answer that a supervisor got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    True,
    False,
    /// Another status, or another body.
    Other(u16),
    /// No answer: the connection ended.
    NetworkError,
    /// No answer yet.
    Nothing,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::True => f.write_str("true"),
            Outcome::False => f.write_str("false"),
            Outcome::Other(status) => write!(f, "status {status}"),
            Outcome::NetworkError => f.write_str("network error"),
            Outcome::Nothing => f.write_str("nothing"),
        }
    }
}

/// An answer and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub took: Duration,
    /// It has `Connection: close`.
    pub close: bool,
}

/// A supervisor's connection.
pub struct Supervisor {
    pub stream: TcpStream,
    asked: Instant,
}

impl Supervisor {
    /// A supervisor that dispatches on `stream`.
    pub fn on(stream: TcpStream) -> Supervisor {
        Supervisor { stream, asked: Instant::now() }
    }

    /// Dispatches, and waits for the answer.
    pub fn dispatch(&mut self, run: &Run) -> Answer {
        match self.ask(run) {
            Ok(()) => self.answer(PATIENCE),
            Err(_) => Answer { outcome: Outcome::NetworkError, took: self.asked.elapsed(), close: true },
        }
    }

    /// Dispatches `run` while `receive` reads on another thread. Returns the answer and what was read.
    pub fn deliver<T: Send>(&mut self, run: &Run, receive: impl FnOnce() -> T + Send) -> (Answer, T) {
        std::thread::scope(|scope| {
            let runner = scope.spawn(receive);
            let answer = self.dispatch(run);
            (answer, runner.join().expect("a runner"))
        })
    }

    /// Dispatches until the broker holds the poll that is on its way.
    pub fn dispatch_when_held(&mut self, run: &Run) -> Answer {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.dispatch(run);
            if answer.outcome != Outcome::False || Instant::now() > until {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a dispatch.
    pub fn ask(&mut self, run: &Run) -> io::Result<()> {
        let request = run.request();
        self.asked = Instant::now();
        self.stream.write_all(&request)
    }

    /// Waits for the answer.
    pub fn answer(&mut self, within: Duration) -> Answer {
        let response = read_response(&self.stream, within);
        let took = self.asked.elapsed();
        let outcome = match (response.end, response.status, response.body.as_slice()) {
            (End::Complete, 200, b"{\"didWarmStart\":true}") => Outcome::True,
            (End::Complete, 200, b"{\"didWarmStart\":false}") => Outcome::False,
            (End::Complete, status, _) => Outcome::Other(status),
            (End::Silent, ..) => Outcome::Nothing,
            _ => Outcome::NetworkError,
        };
        Answer { outcome, took, close: response.close }
    }
}
