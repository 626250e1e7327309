//! The built binary as an operator uses it: flags, messages, signals, exit codes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_pilotlight");
/// Far longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than the time in which the broker counts a second signal as an echo.
const ECHO: Duration = Duration::from_millis(300);
/// Both sides on free ports.
const ANYWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// A command in an environment without settings.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("PILOTLIGHT_") || name.starts_with("LISTEN_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn pilotlight(args: &[&str]) -> Command {
    let mut command = clean(BINARY);
    command.args(args);
    command
}

/// `pilotlight` with `args`, started by a shell that first runs `before`.
fn after_shell(before: &str, args: &[&str]) -> Command {
    let mut command = clean("sh");
    command.arg("-c");
    command.arg(format!("{before}; exec \"$0\" \"$@\""));
    command.arg(BINARY).args(args);
    command
}

/// Runs a command to its end. Returns exit code, standard output and standard error.
fn said(mut command: Command) -> (i32, String, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
    let mut running = Running::watch(child);
    let status = running.ended();
    let (stdout, stderr) = (running.stdout(), running.rest_of_stderr());
    (status.code().expect("an exit code"), stdout, stderr)
}

/// The exit code and the one line of a command that refuses its flags.
fn refusal(command: Command) -> (i32, String) {
    let (code, stdout, stderr) = said(command);
    assert_eq!(stdout, "");
    let lines: Vec<&str> = stderr.lines().filter(|line| !is_log(line)).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    (code, lines[0].to_owned())
}

/// Log lines begin with the time.
fn is_log(line: &str) -> bool {
    line.starts_with("20")
}

/// A running process; killed when the test is done with it.
struct Running {
    child: Child,
    stderr: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spawned");
        Running::watch(child)
    }

    fn watch(mut child: Child) -> Self {
        let stderr = child.stderr.take().expect("piped");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, stderr: receiver }
    }

    /// The next line of standard error that contains `needle`.
    fn line(&self, needle: &str) -> String {
        let mut seen = String::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(needle) => return line,
                Ok(line) => seen += &(line + "\n"),
                Err(_) => panic!("{needle:?} is not in:\n{seen}"),
            }
        }
    }

    /// The address that `side` serves, from the log.
    fn listening(&self, side: &str) -> SocketAddr {
        let line = self.line(&format!("listening side={side} addr="));
        let (_, addr) = line.rsplit_once("addr=").expect("an address");
        addr.parse().expect(addr)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("still running");
    }

    fn stdout(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut text).expect("UTF-8");
        }
        text
    }

    fn rest_of_stderr(&self) -> String {
        self.stderr.iter().map(|line| line + "\n").collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// GET `path`: status and body.
fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

/// Asks /readyz until it answers with `status`.
fn wait_ready(admin: SocketAddr, status: u16) {
    let began = Instant::now();
    while get(admin, "/readyz").0 != status {
        assert!(began.elapsed() < PATIENCE, "/readyz is not {status}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn help_goes_to_standard_output() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let (code, stdout, stderr) = said(pilotlight(args));
        assert_eq!((code, stderr.as_str()), (0, ""));
        for needle in [
            "Listening:",
            "Delivery",
            "Limits:",
            "Timeouts:",
            "--dispatch-listen <IP:PORT|unix:PATH>",
            "PILOTLIGHT_CONFIRM",
            "[default: 30s]",
            "- read:",
            "Examples:",
            "Exit codes:",
            "SIGTERM",
            "--help-advanced",
        ] {
            assert!(stdout.contains(needle), "{args:?}: {needle:?} is not in:\n{stdout}");
        }
        assert!(!stdout.contains("--coalesce "), "an advanced flag is in:\n{stdout}");
        assert!(stdout.trim_end().ends_with("pilotlight serve --help-advanced"), "{stdout}");
    }
    for args in [&["--help-advanced"][..], &["serve", "--help-advanced"]] {
        let (code, stdout, stderr) = said(pilotlight(args));
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.contains("--coalesce <") && !stdout.contains("--keepalive <"), "{stdout}");
    }
    for (command, needles) in [
        ("top", ["Keys:", "--once", "Exit codes:"]),
        ("cordon", ["pilotlight cordon --node worker-3", "--deployment", "Exit codes:"]),
        ("uncordon", ["pilotlight uncordon --node worker-3", "--deployment", "Exit codes:"]),
        ("bench", ["--allow-remote", "--dispatch-url", "Exit codes:"]),
    ] {
        let (code, stdout, _) = said(pilotlight(&[command, "--help"]));
        assert_eq!(code, 0);
        needles.iter().for_each(|needle| assert!(stdout.contains(needle), "{command}: {needle}"));
    }
}

#[test]
fn version_and_completions() {
    let (code, stdout, _) = said(pilotlight(&["--version"]));
    let version = format!("pilotlight {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((code, stdout), (0, version));
    for shell in ["bash", "zsh", "fish"] {
        let mut command = pilotlight(&["completions", shell]);
        // Other commands do not read the settings of serve.
        command.env("PILOTLIGHT_LISTEN", "nowhere");
        command.env("PILOTLIGHT_KEEPALIVE", "abc");
        let (code, stdout, stderr) = said(command);
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        assert!(stdout.contains("dispatch-listen") && stdout.contains("ring-from-events"), "{shell}");
    }
    assert_eq!(said(pilotlight(&["completions", "tcsh"])).0, 2);
}

#[test]
fn invalid_flags_exit_2_with_one_line() {
    for (args, line) in [
        (
            &["--keepalive", "soon"][..],
            "pilotlight: --keepalive (PILOTLIGHT_KEEPALIVE): \"soon\" is not a duration. Use a value such as 30s or 5m.",
        ),
        (
            &["--confirm", "maybe"],
            "pilotlight: --confirm (PILOTLIGHT_CONFIRM): \"maybe\" is not a valid choice. Use one of read, ack, write.",
        ),
        (
            &["--max-body", "16M"],
            "pilotlight: --max-body (PILOTLIGHT_MAX_BODY): \"16M\" is not a size. Use whole bytes",
        ),
        (
            &["serve", "--idle-timeout", "3s"],
            "pilotlight: --idle-timeout (PILOTLIGHT_IDLE_TIMEOUT): \"3s\" is too short. Use a duration above 4s",
        ),
        (&["--cpus", "3-1"], "pilotlight: --cpus (PILOTLIGHT_CPUS): \"3-1\" is not a list of CPUs: "),
        (
            &["--cpus", "1000"],
            "pilotlight: --cpus (PILOTLIGHT_CPUS): \"1000\" names CPU 1000, which the process may not use. Use some of ",
        ),
        (
            &["--cpus", "0", "--workers", "1"],
            "pilotlight: --cpus (PILOTLIGHT_CPUS): \"0\" conflicts with --workers 1",
        ),
        (
            &["--listen", "localhost:1"],
            "pilotlight: --listen (PILOTLIGHT_LISTEN): \"localhost:1\" is not an IP address",
        ),
        (
            &["cordon", "--admin", "127.0.0.1:8042"],
            "pilotlight: --admin (PILOTLIGHT_ADMIN): \"127.0.0.1:8042\" is not the address of an admin side. Use a URL such as http://",
        ),
        (
            &["explain", "d", "--admin", "ftp://127.0.0.1:8042"],
            "pilotlight: --admin (PILOTLIGHT_ADMIN): \"ftp://127.0.0.1:8042\" is not the address of an admin side. ",
        ),
    ] {
        let (code, said) = refusal(pilotlight(args));
        assert_eq!(code, 2, "{args:?}");
        assert!(said.starts_with(line), "{args:?}: {said}");
    }
    let (code, _, stderr) = said(pilotlight(&["--lissen", "127.0.0.1:1"]));
    assert_eq!((code, stderr.contains("'--listen'")), (2, true), "{stderr}");
}

#[test]
#[cfg(not(feature = "io-uring"))]
fn an_engine_that_is_not_in_the_build_is_refused() {
    let (code, line) = refusal(pilotlight(&["--engine", "io-uring"]));
    assert_eq!(code, 2);
    assert!(line.contains("\"io-uring\" is not in this build"), "{line}");
}

#[test]
fn environment_sets_missing_flags() {
    let mut command = pilotlight(&[]);
    command.env("PILOTLIGHT_IDLE_TIMEOUT", "2s");
    let (code, line) = refusal(command);
    assert_eq!((code, line.contains("(PILOTLIGHT_IDLE_TIMEOUT): \"2s\"")), (2, true), "{line}");
    for args in [&ANYWHERE[..], &["serve"]] {
        let mut command = pilotlight(args);
        command.env("PILOTLIGHT_LISTEN", "127.0.0.1:0");
        command.env("PILOTLIGHT_ADMIN_LISTEN", "127.0.0.1:0");
        command.env("PILOTLIGHT_WORKERS", "3");
        let running = Running::start(command);
        running.line("serving workers=3");
    }
}

#[test]
fn a_flag_beats_its_environment_variable() {
    let mut command = pilotlight(&ANYWHERE);
    command.args(["--workers", "1"]);
    command.env("PILOTLIGHT_WORKERS", "3");
    Running::start(command).line("serving workers=1");
}

#[test]
fn demo_ignores_broker_settings() {
    let mut command = pilotlight(&["demo", "--every", "20ms"]);
    command.env("PILOTLIGHT_DEMO_FOR", "1s");
    // If the demo read this setting, its broker would refuse its dispatches.
    command.env("PILOTLIGHT_DISPATCH_ALLOW", "192.0.2.0/24");
    let (code, stdout, stderr) = said(command);
    assert_eq!((code, stdout.contains("a runner read it")), (0, true), "{stdout}{stderr}");
}

#[test]
fn port_0_works_and_the_log_names_each_port() {
    let mut command = pilotlight(&ANYWHERE);
    command.args(["--dispatch-listen", "127.0.0.1:0"]);
    let running = Running::start(command);
    let admin = running.listening("admin");
    let runner = running.listening("runner");
    let dispatch = running.listening("dispatch");
    let ports = [admin.port(), runner.port(), dispatch.port()];
    assert!(ports.iter().all(|port| *port != 0), "{ports:?}");
    TcpStream::connect(runner).expect("the runner side listens");
    TcpStream::connect(dispatch).expect("the dispatch side listens");
    wait_ready(admin, 200);
    assert_eq!(get(admin, "/healthz").0, 200);
    let (status, page) = get(admin, "/status");
    assert_eq!(status, 200);
    assert!(page.starts_with("{\"version\":\""), "{page}");
    let (status, page) = get(admin, "/metrics");
    assert_eq!((status, page.ends_with("# EOF\n")), (200, true));
}

#[test]
fn logs_can_be_json() {
    let mut command = pilotlight(&ANYWHERE);
    command.args(["--log-format", "json"]);
    let running = Running::start(command);
    for side in ["admin", "runner"] {
        let line = running.line("listening");
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["message"], "listening");
        assert_eq!(event["side"], side);
        let addr = event["addr"].as_str().expect("a string");
        assert_ne!(addr.parse::<SocketAddr>().expect("an address").port(), 0);
    }
}

#[test]
fn unusable_addresses_exit_1_with_one_line() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    for flag in ["--listen", "--dispatch-listen", "--admin-listen"] {
        let mut command = pilotlight(&[]);
        for other in ["LISTEN", "ADMIN_LISTEN"] {
            command.env(format!("PILOTLIGHT_{other}"), "127.0.0.1:0");
        }
        command.args([flag, &taken]);
        let (code, line) = refusal(command);
        assert_eq!(code, 1, "{line}");
        let expected = format!("pilotlight: {flag} {taken}: the address is in use: ");
        assert!(line.starts_with(&expected), "{line}");
    }
    // Reserved for documentation, so no machine has this address.
    let mut command = pilotlight(&ANYWHERE[2..]);
    command.args(["--listen", "192.0.2.1:0", "--dispatch-listen", "127.0.0.1:0"]);
    let (code, line) = refusal(command);
    assert_eq!(code, 1);
    assert!(line.contains("--listen 192.0.2.1:0: this host has no such address"), "{line}");
}

#[test]
fn descriptors_are_raised_and_counted() {
    let running = Running::start(after_shell("ulimit -S -n 256", &ANYWHERE));
    let line = running.line("descriptors: holds about");
    assert!(line.contains("raised_from=256"), "{line}");
    assert!(!line.contains("limit=256 "), "{line}");

    let (code, line) = refusal(after_shell("ulimit -n 80", &ANYWHERE));
    assert_eq!(code, 2);
    for needle in ["limit of 80 open files", "ulimit -Hn", "LimitNOFILE"] {
        assert!(line.contains(needle), "{line}");
    }

    for (tables, scope, room) in [("worker", " for each worker", 2 * 888), ("process", "", 888)] {
        let mut args = ANYWHERE.to_vec();
        args.extend(["--workers", "2", "--max-connections", "2000", "--descriptor-tables", tables]);
        let (code, line) = refusal(after_shell("ulimit -n 1000", &args));
        assert_eq!(code, 2);
        let expected = format!(
            "--max-connections (PILOTLIGHT_MAX_CONNECTIONS): \"2000\" is too many: the limit of 1000 open files{scope} allows {room} connections"
        );
        assert!(line.contains(&expected), "{line}");
    }
}

#[test]
fn sigterm_and_sigint_shut_down_and_exit_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = pilotlight(&ANYWHERE);
        command.args(["--shutdown-time", "100ms"]);
        let mut running = Running::start(command);
        running.line("serving");
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(0), "{signal}");
        running.line("shutdown started");
        running.line("shutdown complete");
    }
}

#[test]
fn a_second_signal_ends_a_shutdown_immediately() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut command = pilotlight(&ANYWHERE);
        command.args(["--shutdown-time", "60s"]);
        let mut running = Running::start(command);
        let admin = running.listening("admin");
        let runner = running.listening("runner");
        wait_ready(admin, 200);
        // A poll to shut down for.
        let polls: Vec<TcpStream> = (0..20).map(|_| poll(runner)).collect();
        let began = Instant::now();
        while !get(admin, "/status").1.contains(r#""waiting":20,"#) {
            assert!(began.elapsed() < PATIENCE, "the polls are not held");
        }
        running.signal(Signal::SIGTERM);
        wait_ready(admin, 503);
        assert_eq!(get(admin, "/healthz").0, 200);
        thread::sleep(ECHO);
        running.signal(signal);
        assert_eq!(running.ended().code(), Some(code));
        running.line("forced the broker to stop");
        drop(polls);
    }
}

#[test]
fn signal_echo_is_not_a_second_signal() {
    let mut command = pilotlight(&ANYWHERE);
    command.args(["--shutdown-time", "1s"]);
    let mut running = Running::start(command);
    let runner = running.listening("runner");
    running.line("serving");
    let polls: Vec<TcpStream> = (0..20).map(|_| poll(runner)).collect();
    // The kernel may merge two pending signals of the same kind.
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGINT);
    assert_eq!(running.ended().code(), Some(0));
    drop(polls);
}

/// A warm runner's long poll.
fn poll(runner: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(runner).expect("connected");
    let request = "GET /warm-start HTTP/1.1\r\nhost: test\r\n\
        x-trigger-workload-controller-id: controller\r\n\
        x-trigger-deployment-id: deployment_a\r\n\
        x-trigger-deployment-version: 20260101.1\r\n\
        x-trigger-machine-cpu: 0.5\r\n\
        x-trigger-machine-memory: 0.5\r\n\
        x-trigger-worker-instance-name: worker-1\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

#[test]
fn sighup_changes_nothing() {
    let running = Running::start(pilotlight(&ANYWHERE));
    let admin = running.listening("admin");
    wait_ready(admin, 200);
    running.signal(Signal::SIGHUP);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(get(admin, "/readyz").0, 200);
}

/// Passes a socket as systemd does: as descriptor 3.
fn activated(names: &str, socket: impl Into<OwnedFd>, pid: &str, args: &[&str]) -> Command {
    let before =
        format!("exec 3<&0 0</dev/null; export LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES={names}");
    let mut command = after_shell(&before, args);
    command.stdin(Stdio::from(socket.into()));
    command
}

#[test]
fn activated_sockets_are_served() {
    for (names, side) in
        [("runner", "runner"), ("pilotlight.socket", "runner"), ("dispatch", "dispatch"), ("admin", "admin")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let running = Running::start(activated(names, listener, "$$", &ANYWHERE));
        assert_eq!(running.listening(side), addr, "{names}");
        running.line("serving");
        if side == "admin" {
            assert_eq!(get(addr, "/readyz").0, 200);
        }
    }
}

#[test]
fn sockets_of_another_process_are_ignored() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let running = Running::start(activated("runner", listener, "1", &ANYWHERE));
    assert_ne!(running.listening("runner"), addr);
}

#[test]
fn invalid_sockets_exit_2() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, line) = refusal(activated("dispach", listener, "$$", &ANYWHERE));
    assert_eq!(code, 2);
    assert!(line.contains("LISTEN_FDNAMES \"dispach\""), "{line}");

    let file = File::open("/dev/null").expect("opened");
    let (code, line) = refusal(activated("runner", file, "$$", &ANYWHERE));
    assert_eq!(code, 2);
    assert!(line.contains("does not listen"), "{line}");

    let variables = "export LISTEN_PID=$$ LISTEN_FDS=7";
    let (code, line) = refusal(after_shell(variables, &ANYWHERE));
    assert_eq!(code, 2);
    assert!(line.contains("LISTEN_FDS: "), "{line}");
}

#[test]
fn service_manager_is_notified() {
    let path = std::env::temp_dir().join(format!("pilotlight-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let hear = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = pilotlight(&ANYWHERE);
    command.args(["--shutdown-time", "0s"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = Running::start(command);
    let admin = running.listening("admin");
    assert_eq!(hear(), "READY=1\n");
    assert_eq!(get(admin, "/readyz").0, 200);
    running.signal(Signal::SIGTERM);
    assert_eq!(hear(), "STOPPING=1\n");
    assert_eq!(running.ended().code(), Some(0));
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn a_node_is_cordoned_and_uncordoned() {
    let running = Running::start(pilotlight(&ANYWHERE));
    let admin = running.listening("admin");
    wait_ready(admin, 200);
    let url = format!("http://{admin}");
    let ask = |command: &str, args: &[&str]| {
        let mut command = pilotlight(&[command, "--admin", &url]);
        command.args(args);
        said(command)
    };
    let nothing = (0, "nothing is cordoned\n".to_owned(), String::new());
    assert_eq!(ask("cordon", &[]), nothing);
    let (code, stdout, _) = ask("cordon", &["--node", "worker-3"]);
    assert_eq!((code, stdout.starts_with("cordoned node worker-3: ")), (0, true), "{stdout}");
    let (code, stdout, _) = ask("cordon", &["--deployment", "deployment_a"]);
    assert_eq!((code, stdout.starts_with("cordoned deployment deployment_a: ")), (0, true));
    let (code, stdout, _) = ask("cordon", &[]);
    assert_eq!((code, stdout.as_str()), (0, "node worker-3\ndeployment deployment_a\n"));
    let (code, stdout, _) = ask("uncordon", &["--node", "worker-3"]);
    assert_eq!((code, stdout.as_str()), (0, "uncordoned node worker-3\n"));
    let (code, _, stderr) = ask("uncordon", &["--node", "worker-3"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("node \"worker-3\" is not cordoned"), "{stderr}");
    let (code, _, stderr) = ask("cordon", &["--node", ""]);
    assert_eq!((code, stderr.contains("node: \"\" is empty")), (1, true), "{stderr}");
    assert_eq!(ask("uncordon", &[]).0, 2);
}

#[test]
fn unreachable_brokers_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let (code, line) = refusal(pilotlight(&["cordon", "--admin", &url]));
    assert_eq!(code, 1);
    assert!(line.contains(&format!("--admin {url}: cannot reach the broker")), "{line}");
    // A server that is not Pilotlight.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", other.local_addr().expect("bound"));
    thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("accepted");
        let mut request = [0; 1_024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    });
    let (code, line) = refusal(pilotlight(&["cordon", "--admin", &url]));
    assert_eq!(code, 1);
    assert!(line.contains("is not Pilotlight's admin side"), "{line}");
}
