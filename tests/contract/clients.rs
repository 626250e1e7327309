//! The runners and supervisors that come with the binary: `demo` and `check`.

use crate::support::broker::{Broker, binary};
use crate::support::secrets::SecretFile;
use std::net::SocketAddr;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn the_demo_shows_warm_and_cold_runs_and_ends_by_itself() {
    let output = run(&["demo", "--for", "3s", "--every", "100ms", "--runners", "12"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("See it live: http://127.0.0.1:"), "{said}");
    let runs: Vec<&str> = said.lines().filter(|line| line.starts_with("run_demo")).collect();
    let warm = runs.iter().filter(|line| line.contains(" warm ")).count();
    let cold = runs.iter().filter(|line| line.contains("nobody waits with this version")).count();
    assert!(warm >= 3 && cold >= 1, "{said}");
    assert!(said.contains(&format!("\n{warm} runs warm, half of them within ")), "{said}");
    assert_eq!(text(&output.stderr), "", "no log lines between the matches");
}

/// Exit code and what was found.
fn check(runner: SocketAddr, dispatch: Option<SocketAddr>, admin: SocketAddr) -> (i32, String) {
    let url = |addr: SocketAddr| format!("http://{addr}");
    let mut args = vec!["check".to_owned(), "--runner".into(), url(runner), "--admin".into(), url(admin)];
    if let Some(dispatch) = dispatch {
        args.extend(["--dispatch".to_owned(), url(dispatch)]);
    }
    let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    (output.status.code().expect("an exit code"), text(&output.stdout))
}

#[track_caller]
fn marks(said: &str, expected: [&str; 5]) {
    let marks: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(marks, expected, "{said}");
}

#[test]
fn a_check_finds_a_good_broker_good_and_leaves_nothing_behind() {
    let broker = Broker::start("--workers 2 --dispatch-listen 127.0.0.1:0");
    let (code, said) = check(broker.runner, Some(broker.dispatch), broker.admin);
    marks(&said, ["ok", "ok", "ok", "ok", "ok"]);
    assert_eq!(code, 0);
    assert!(said.contains("received by a runner and confirmed"), "{said}");
    assert_eq!(broker.counter("hits"), 1, "it was really dispatched");
    broker.wait_for("waiting", 0);
}

#[test]
fn a_check_says_what_is_wrong_and_what_to_do() {
    // Everybody may dispatch: works, but.
    let shared = Broker::start("--workers 1");
    let (code, said) = check(shared.runner, None, shared.admin);
    marks(&said, ["ok", "ok", "note", "ok", "ok"]);
    assert_eq!(code, 0);
    assert!(said.contains("--dispatch-listen"), "{said}");

    // A dispatch side was promised, and the runner side takes dispatches.
    let other = Broker::start("--workers 1 --dispatch-listen 127.0.0.1:0");
    let (code, said) = check(shared.runner, Some(other.dispatch), shared.admin);
    assert_eq!(code, 1);
    marks(&said, ["ok", "ok", "BAD", "ok", "BAD"]);
    assert!(said.contains("are runner and dispatch side the same broker's?"), "{said}");

    // The admin side is no runner side.
    let (code, said) = check(shared.admin, None, shared.admin);
    assert_eq!((code, said.lines().count()), (1, 2), "{said}");
    assert!(said.contains("as no warm-start broker would"), "{said}");

    // Nobody is there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let (code, said) = check(port, None, shared.admin);
    assert_eq!(code, 1);
    assert!(said.starts_with("BAD   runner side: ") && said.contains("is the broker running"), "{said}");

    let bad_url = run(&["check", "--runner", "127.0.0.1:8040"]);
    assert_eq!(bad_url.status.code(), Some(2));
    assert!(text(&bad_url.stderr).contains("write http://HOST:PORT"), "{bad_url:?}");
}

#[test]
fn a_check_does_not_take_tokens_and_lists_for_faults() {
    let file = SecretFile::new(&["a secret that is long enough for anybody"]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("enforce")));
    let (code, said) = check(broker.runner, None, broker.admin);
    marks(&said, ["ok", "ok", "note", "ok", "note"]);
    assert_eq!(code, 0);
    assert!(said.contains("need a deployment token"), "{said}");

    let broker = Broker::start("--workers 1 --dispatch-allow 192.0.2.0/24");
    let (code, said) = check(broker.runner, None, broker.admin);
    marks(&said, ["ok", "ok", "note", "ok", "note"]);
    assert_eq!(code, 0);
    assert!(said.contains("--dispatch-allow"), "{said}");
}

#[test]
fn manual_pages_tell_of_every_command() {
    let dir = std::env::temp_dir().join(format!("pilotlight-man-{}", std::process::id()));
    let output = run(&["man", dir.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).expect(name);
    assert!(page("pilotlight.1").contains("Warm starts for self\\-hosted Trigger.dev"));
    assert!(page("pilotlight-serve.1").contains("\\-\\-ack\\-timeout"));
    for command in ["drain", "explain", "demo", "check", "completions"] {
        assert!(page("pilotlight.1").contains(&format!("pilotlight\\-{command}")), "{command}");
        assert!(!page(&format!("pilotlight-{command}.1")).is_empty());
    }
    std::fs::remove_dir_all(&dir).expect("removed");
    let refused = run(&["man", "/proc/nowhere"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("/proc/nowhere"), "{refused:?}");
}
