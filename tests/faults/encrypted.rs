//! The same faults with TLS on the runner side. The broker proves that the records' bytes arrived, and the
//! outcomes are those without TLS.

use super::broker::{Broker, Builder};
use super::http::{End, Outcome, PATIENCE, Response, Run, is_complete, poll_request, response_of};
use super::net::Net;
use super::process::Runner;
use super::support::folder::Folder;
use super::support::pki::{self, Authority};
use super::table::time;
use super::wire::{BROKER, Wire};
use super::{Case, Fault, Mode, Runs, Scope};
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "tls_no_fault", scope: Scope::Everything, runs: Runs::Parallel, test: no_fault },
    Fault { name: "tls_black_hole", scope: Scope::Everything, runs: Runs::Parallel, test: black_hole },
    Fault { name: "tls_killed_waiting", scope: Scope::Modes, runs: Runs::Parallel, test: killed_waiting },
    Fault { name: "tls_killed_unread", scope: Scope::Everything, runs: Runs::Parallel, test: killed_unread },
    Fault { name: "tls_stopped", scope: Scope::Everything, runs: Runs::Parallel, test: stopped },
    Fault { name: "tls_sizes", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: sizes },
    Fault { name: "tls_truncated", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: truncated },
    Fault { name: "tls_end_unread", scope: Scope::ProofsOnOneWorker, runs: Runs::Parallel, test: end_unread },
];

const DEPLOYMENT: &str = "deployment_encrypted";
/// `--ack-timeout`.
const ACK_TIMEOUT: Duration = Duration::from_millis(300);
/// `--read-timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A runner's TLS connection with a poll.
pub struct TlsPoller {
    stream: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
}

impl TlsPoller {
    /// Polls on `stream`. The broker must have a certificate of `authority`.
    pub fn on(stream: TcpStream, deployment: &str, authority: &str) -> TlsPoller {
        let session = pki::session(&pki::client(authority, None, &[&TLS13]));
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(&poll_request(deployment, "controller_1", "node_1")).expect("to poll");
        stream.flush().expect("to poll");
        TlsPoller { stream, input: Vec::new() }
    }

    /// Reads one response, or the part of it that arrives in time.
    pub fn read(&mut self, within: Duration) -> Response {
        let until = Instant::now() + within;
        let mut buffer = vec![0; 64 * 1024];
        let end = loop {
            if is_complete(&self.input) {
                break End::Complete;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break End::Silent;
            }
            self.stream.sock.set_read_timeout(Some(left)).expect("a read timeout");
            match self.stream.read(&mut buffer) {
                Ok(0) => break End::Closed,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => break End::Silent,
                    ErrorKind::Interrupted => {}
                    ErrorKind::UnexpectedEof => break End::Closed,
                    _ => break End::Reset,
                },
            }
        };
        response_of(&self.input, end)
    }

    /// Reads the response, sends close_notify and closes.
    fn receive(mut self, within: Duration) -> Response {
        let response = self.read(within);
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        response
    }
}

/// An authority and a broker with a certificate of it.
struct Scene {
    authority: Authority,
    folder: Folder,
    broker: Broker,
}

impl Scene {
    fn new(case: &Case, name: &str) -> Scene {
        Scene::over(case, name, |builder| builder)
    }

    fn over(case: &Case, name: &str, change: impl FnOnce(Builder) -> Builder) -> Scene {
        let authority = Authority::new(name);
        let folder = Folder::new(&format!("{name}-{:?}-{:?}", case.mode, case.workers));
        let (cert, key) = authority.server().write(folder.as_ref(), "server");
        std::fs::write(folder.path("ca.crt"), &authority.pem).expect("written");
        let flags = format!(
            "--dispatch-listen 127.0.0.1:0 --tls-cert {} --tls-key {}",
            cert.display(),
            key.display()
        );
        let broker = change(case.broker()).args(&flags).start();
        Scene { authority, folder, broker }
    }

    fn poll(&self) -> TlsPoller {
        self.poll_from(&self.broker.net)
    }

    fn poll_from(&self, net: &Net) -> TlsPoller {
        let before = self.broker.waiting(DEPLOYMENT);
        let stream = net.connect(self.broker.runner).expect("to connect");
        let poller = TlsPoller::on(stream, DEPLOYMENT, &self.authority.pem);
        self.broker.wait_for_polls(DEPLOYMENT, before + 1);
        poller
    }

    fn runner(&self, busy: Duration) -> Runner {
        let ca = self.folder.path("ca.crt");
        let runner = Runner::start_tls(&self.broker.net, self.broker.runner, DEPLOYMENT, busy, &ca);
        self.broker.wait_for_polls(DEPLOYMENT, 1);
        runner
    }
}

fn no_fault(case: &Case) {
    let scene = Scene::new(case, "tls-no-fault");
    let poller = scene.poll();
    let mut supervisor = case.supervisor(&scene.broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
    case.row("TLS: nothing is wrong", answer.outcome, got.of(&run), time(answer.took));
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

fn black_hole(case: &Case) {
    let wire = Wire::new();
    let scene = Scene::over(case, "tls-black-hole", |builder| builder.on(&wire.broker, BROKER));
    let mut poller = scene.poll_from(&wire.runner);
    let port = poller.stream.sock.local_addr().expect("an address").port();
    let mut supervisor = case.supervisor(&scene.broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    wire.cut();
    let answer = supervisor.dispatch(&run);
    thread::sleep(Duration::from_millis(300));
    wire.mend();
    let late = poller.read(Duration::from_millis(1_500));
    let what = "TLS: the runner's machine vanishes without a word, and comes back half a second later";
    case.row(what, answer.outcome, late.of(&run), time(answer.took));
    if case.mode == Mode::Write {
        return assert_eq!(answer.outcome, Outcome::True, "answered before any proof");
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, ACK_TIMEOUT);
    assert_eq!(late.bytes, 0, "nothing is delivered late");
    let sent_late =
        wire.trace(port).iter().any(|seg| seg.to_runner && !seg.lost && seg.payload_bytes > 1_400);
    assert!(!sent_late, "no byte was sent late");
}

fn killed_waiting(case: &Case) {
    let scene = Scene::new(case, "tls-killed-waiting");
    let mut runner = scene.runner(Duration::ZERO);
    let mut supervisor = scene.broker.used_supervisor();
    runner.kill();
    let answer = supervisor.dispatch(&Run::new(DEPLOYMENT));
    case.row("TLS: the runner is killed while it waits", answer.outcome, "nothing", time(answer.took));
    assert_eq!(answer.outcome, Outcome::False);
}

fn killed_unread(case: &Case) {
    let scene = Scene::new(case, "tls-killed-unread");
    let mut runner = scene.runner(PATIENCE);
    let mut supervisor = case.supervisor(&scene.broker, DEPLOYMENT);
    supervisor.ask(&Run::new(DEPLOYMENT)).expect("to ask");
    let answer = match case.mode {
        Mode::Read => {
            runner.reached();
            runner.kill();
            supervisor.answer(PATIENCE)
        }
        // After a handshake the connection is not new, and its kernel delays the ACK of unread bytes. If the
        // runner were killed before the ACK, the answer would be false.
        Mode::Ack | Mode::Write => {
            let answer = supervisor.answer(PATIENCE);
            runner.kill();
            answer
        }
    };
    let what = "TLS: the runner is killed when the run has reached its kernel";
    case.row(what, answer.outcome, "nothing", time(answer.took));
    match case.mode {
        Mode::Read => assert_eq!(answer.outcome, Outcome::False),
        Mode::Ack | Mode::Write => assert_eq!(answer.outcome, Outcome::True, "its kernel had it"),
    }
    assert!(answer.took < READ_TIMEOUT, "a reset ends the attempt immediately: {:?}", answer.took);
}

fn stopped(case: &Case) {
    let scene = Scene::new(case, "tls-stopped");
    let mut runner = scene.runner(Duration::ZERO);
    let mut supervisor = case.supervisor(&scene.broker, DEPLOYMENT);
    let run = Run::new(DEPLOYMENT);
    runner.freeze();
    let answer = supervisor.dispatch(&run);
    case.row("TLS: the runner is stopped (SIGSTOP)", answer.outcome, "nothing", time(answer.took));
    runner.thaw();
    let received = runner.received();
    case.row("… and continued after the answer", answer.outcome, received.of(&run), "");
    if case.mode != Mode::Read {
        assert!(received.whole(&run), "{received:?}");
        return assert_eq!(answer.outcome, Outcome::True, "its kernel had it");
    }
    assert_eq!(answer.outcome, Outcome::False);
    case.took_about(answer.took, READ_TIMEOUT);
}

/// Sizes around a segment, a record and many records.
fn sizes(case: &Case) {
    // Long timeouts: this is not about time, and client and broker are debug builds on one machine.
    let patient = "--dispatch-timeout 15s --read-timeout 10s --ack-timeout 10s";
    let scene = Scene::over(case, "tls-sizes", |builder| builder.args(patient));
    let mut most = Duration::ZERO;
    for bytes in [700, 1_300, 1_448, 16_100, 16_200, 16_300, 16_384, 32_700, 300_000, 2 << 20] {
        let run = Run::sized(DEPLOYMENT, bytes);
        let poller = scene.poll();
        let mut supervisor = scene.broker.supervisor();
        let (answer, got) = supervisor.deliver(&run, move || poller.receive(PATIENCE));
        assert!(got.is(&run), "{bytes}: {:?}", got.end);
        assert_eq!(answer.outcome, Outcome::True, "{bytes}");
        most = most.max(answer.took);
    }
    case.row("TLS: runs of 0.7 KB to 2 MiB", "true", "the run", format!("at most {}", time(most)));
}

/// Most clients read the whole run and close without close_notify.
fn truncated(case: &Case) {
    let scene = Scene::new(case, "tls-truncated");
    let mut poller = scene.poll();
    let mut supervisor = scene.broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let runner = thread::spawn(move || {
        let response = poller.read(PATIENCE);
        // Only the broker's close_notify and its FIN are left.
        let _ = poller.stream.sock.read_to_end(&mut Vec::new());
        response
    });
    supervisor.ask(&run).expect("to ask");
    let answer = supervisor.answer(PATIENCE);
    // With `ack` the connection stays open until the broker ends.
    drop(scene);
    let got = runner.join().expect("a runner");
    case.row(
        "TLS: the runner reads the run and closes without close_notify",
        answer.outcome,
        got.of(&run),
        time(answer.took),
    );
    assert_eq!(answer.outcome, Outcome::True);
    assert!(got.is(&run));
}

/// A client whose TLS library reads record by record and that closes after the response. The broker's
/// close_notify stays unread in its kernel, so its close sends a reset.
fn end_unread(case: &Case) {
    let scene = Scene::new(case, "tls-end-unread");
    let mut poller = scene.poll();
    let mut supervisor = scene.broker.supervisor();
    let run = Run::new(DEPLOYMENT);
    let (answer, got) = supervisor.deliver(&run, move || {
        // Reads exactly one record.
        let mut record = vec![0; 5];
        poller.stream.sock.set_read_timeout(Some(PATIENCE)).expect("set");
        poller.stream.sock.read_exact(&mut record).expect("a record's head");
        let len = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + len, 0);
        poller.stream.sock.read_exact(&mut record[5..]).expect("a record");
        poller.stream.conn.read_tls(&mut &record[..]).expect("taken");
        poller.stream.conn.process_new_packets().expect("good");
        let mut input = vec![0; 64 * 1024];
        let count = poller.stream.conn.reader().read(&mut input).expect("a response");
        response_of(&input[..count], End::Complete)
    });
    let what = "TLS: the runner reads the run's records and closes with our close_notify unread";
    case.row(what, answer.outcome, got.of(&run), time(answer.took));
    assert!(got.is(&run));
    assert_eq!(answer.outcome == Outcome::True, case.mode == Mode::Ack);
}
