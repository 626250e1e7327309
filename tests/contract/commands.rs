//! The commands that need a running broker: `demo`, `check`, `bench` and `top`; and the manual pages.

use crate::support::binary::binary;
use crate::support::broker::Broker;
use crate::support::folder::Folder;
use crate::support::secrets::SecretFile;
use crate::support::tls::Identity;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn demo_shows_warm_and_cold_runs_and_ends() {
    let output = run(&["demo", "--for", "3s", "--every", "100ms", "--runners", "12"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("Watch it: http://127.0.0.1:"), "{said}");
    let runs: Vec<&str> = said.lines().filter(|line| line.starts_with("run_demo")).collect();
    let warm = runs.iter().filter(|line| line.contains(" warm ")).count();
    let cold = runs.iter().filter(|line| line.contains("no runner has this version")).count();
    assert!(warm >= 3 && cold >= 1, "{said}");
    assert!(said.contains(&format!("\n{warm} runs were warm, half of them within ")), "{said}");
    assert_eq!(text(&output.stderr), "", "demo must print no log");
}

/// The exit code and the output of `check`.
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
fn check_passes_on_a_good_broker() {
    let broker = Broker::start("--workers 2 --dispatch-listen 127.0.0.1:0");
    let (code, said) = check(broker.runner, Some(broker.dispatch), broker.admin);
    marks(&said, ["ok", "ok", "ok", "ok", "ok"]);
    assert_eq!(code, 0);
    assert!(said.contains("received by a runner and confirmed"), "{said}");
    assert_eq!(broker.counter("warm"), 1, "check dispatches a run");
    broker.wait_for("waiting", 0);
}

#[test]
fn check_speaks_tls_and_unix_domain_sockets() {
    let identity = Identity::new("check");
    let (ca, socket) = (identity.folder.path("ca.pem"), identity.folder.path("dispatch.sock"));
    fs::write(&ca, &identity.authority.pem).expect("written");
    let broker = Broker::start(&format!("--workers 1 {} --dispatch-listen unix:{socket}", identity.flags()));
    let runner = format!("https://localhost:{}", broker.runner.port());
    let (dispatch, admin) = (format!("unix:{socket}"), format!("http://{}", broker.admin));
    let sides = ["check", "--runner", &runner, "--dispatch", &dispatch, "--admin", &admin];
    let output = run(&[&sides[..], &["--ca", &ca]].concat());
    marks(&text(&output.stdout), ["ok", "ok", "ok", "ok", "ok"]);
    assert_eq!(output.status.code(), Some(0));
    broker.wait_for("warm", 1);

    // Without --ca, the system's authorities do not vouch for this certificate.
    let output = run(&sides);
    assert_eq!(output.status.code(), Some(if text(&output.stdout).is_empty() { 2 } else { 1 }), "{output:?}");
    assert!(!text(&output.stdout).contains("received by a runner"), "{output:?}");
    let missing = run(&[&sides[..], &["--ca", "/nowhere/ca.pem"]].concat());
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("--ca /nowhere/ca.pem: "), "{missing:?}");
}

#[test]
fn check_names_the_fault_and_the_fix() {
    // Dispatches on the runner side work, with a warning.
    let shared = Broker::start("--workers 1");
    let (code, said) = check(shared.runner, None, shared.admin);
    marks(&said, ["ok", "ok", "warn", "ok", "ok"]);
    assert_eq!(code, 0);
    assert!(said.contains("--dispatch-listen"), "{said}");

    // The runner side takes dispatches although there is a dispatch side.
    let other = Broker::start("--workers 1 --dispatch-listen 127.0.0.1:0");
    let (code, said) = check(shared.runner, Some(other.dispatch), shared.admin);
    assert_eq!(code, 1);
    marks(&said, ["ok", "ok", "FAIL", "ok", "FAIL"]);
    assert!(said.contains("belong to the same broker?"), "{said}");

    // The admin side in place of the runner side.
    let (code, said) = check(shared.admin, None, shared.admin);
    assert_eq!((code, said.lines().count()), (1, 2), "{said}");
    assert!(said.contains("which no warm-start broker does"), "{said}");

    // No listener.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let (code, said) = check(port, None, shared.admin);
    assert_eq!(code, 1);
    assert!(said.starts_with("FAIL  runner side: ") && said.contains("Is the broker running"), "{said}");

    let bad_url = run(&["check", "--runner", "127.0.0.1:8040"]);
    assert_eq!(bad_url.status.code(), Some(2));
    assert!(text(&bad_url.stderr).contains("such as http://HOST:PORT"), "{bad_url:?}");
}

#[test]
fn check_accepts_tokens_and_lists_of_addresses() {
    let file = SecretFile::new(&["a secret that has at least 32 bytes"]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("enforce")));
    let (code, said) = check(broker.runner, None, broker.admin);
    marks(&said, ["ok", "ok", "warn", "ok", "warn"]);
    assert_eq!(code, 0);
    assert!(said.contains("need a deployment token"), "{said}");

    let broker = Broker::start("--workers 1 --dispatch-allow 192.0.2.0/24");
    let (code, said) = check(broker.runner, None, broker.admin);
    marks(&said, ["ok", "ok", "warn", "ok", "warn"]);
    assert_eq!(code, 0);
    assert!(said.contains("--dispatch-allow"), "{said}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new("man");
    let output = run(&["man", &folder.path("pages")]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(folder.as_ref().join("pages").join(name)).expect(name);
    assert!(page("pilotlight.1").contains("Warm starts for self\\-hosted Trigger.dev"));
    assert!(page("pilotlight-serve.1").contains("\\-\\-ack\\-timeout"));
    for command in ["cordon", "uncordon", "explain", "demo", "check", "top", "bench", "completions"] {
        assert!(page("pilotlight.1").contains(&format!("pilotlight\\-{command}")), "{command}");
        assert!(!page(&format!("pilotlight-{command}.1")).is_empty());
    }
    let refused = run(&["man", "/proc/nowhere"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("/proc/nowhere"), "{refused:?}");
}

fn bench(args: &str) -> (i32, String, String) {
    let mut all = vec!["bench"];
    all.extend(args.split(' '));
    let output = run(&all);
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn bench_counts_every_run() {
    let broker = Broker::start("--workers 2 --dispatch-listen 127.0.0.1:0");
    let (runner, dispatch) = (broker.runner, broker.dispatch);
    let (code, said, stderr) = bench(&format!(
        "http://{runner} --dispatch-url http://{dispatch} --rate 50 --for 2s --warm-up 200ms --runners 30 --keys 3 --poll-timeout 1s"
    ));
    assert_eq!((code, stderr.as_str()), (0, ""), "{said}");
    assert!(said.starts_with("50 runs/s for 2s to "), "{said}");
    for needle in
        ["the runner has it", "the dispatch's answer", "\n100 runs: ", " 0 errors", "0 lost", "0 doubled"]
    {
        assert!(said.contains(needle), "{needle:?} is not in {said}");
    }
    // One cold dispatch tests the dispatch side; the rest is the load with its warm-up.
    let (warm, cold) = (broker.counter("warm"), broker.counter("cold"));
    assert_eq!(warm + cold, 1 + 110, "{said}");
    assert!(warm > 55, "too few warm runs: {said}");
    broker.wait_for("waiting", 0);
}

#[test]
fn bench_refuses_unfit_targets_and_flags() {
    let separate = Broker::start("--workers 1 --dispatch-listen 127.0.0.1:0");
    let (code, _, said) = bench(&format!("http://{}", separate.runner));
    assert_eq!((code, said.contains("as --dispatch-url")), (1, true), "{said}");
    let (code, _, said) = bench(&format!("http://{}", separate.admin));
    assert_eq!((code, said.contains("Use the address of --listen")), (1, true), "{said}");

    let (code, _, said) = bench("http://192.0.2.1:8040");
    assert_eq!((code, said.contains("--allow-remote")), (2, true), "{said}");
    let (code, _, said) = bench("127.0.0.1:8040");
    assert_eq!((code, said.contains("Use http://HOST:PORT")), (2, true), "{said}");
    let (code, _, said) = bench("--rate 100000 --for 1h");
    assert_eq!((code, said.contains("a lower --rate or a shorter --for")), (2, true), "{said}");
    let (code, _, said) = bench("--rate 0");
    assert_eq!(
        (code, said.contains("--rate (PILOTLIGHT_BENCH_RATE): \"0\" is not a rate")),
        (2, true),
        "{said}"
    );

    let file = SecretFile::new(&["a secret that has at least 32 bytes"]);
    let guarded = Broker::start(&format!("--workers 1 {}", file.flags("enforce")));
    let (code, _, said) = bench(&format!("http://{}", guarded.runner));
    assert_eq!((code, said.contains("runners need a deployment token here")), (1, true), "{said}");
}

#[test]
fn top_prints_one_frame_or_names_a_missing_broker() {
    let broker = Broker::start("--workers 2");
    let checked = check(broker.runner, None, broker.admin);
    assert_eq!(checked.0, 0, "{}", checked.1);
    let admin = format!("http://{}", broker.admin);
    let output = run(&["top", "--admin", &admin, "--every", "250ms", "--once"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for needle in [
        "live  http://127.0.0.1:",
        "0.0 runs/s",
        "0 waiting",
        "1 warm",
        "run_pilotlight-check_",
        "worker connections",
    ] {
        assert!(said.contains(needle), "{needle:?} is not in {said}");
    }
    assert!(!said.contains('\u{1b}'), "{said}");
    drop(broker);
    let output = run(&["top", "--admin", &admin, "--once"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot reach the broker"), "{said}");
    assert_eq!(run(&["top", "--admin", "nowhere"]).status.code(), Some(2));
    assert_eq!(run(&["top", "--every", "1ms"]).status.code(), Some(2));
}
