//! Places where the secrets and the tokens must not appear.

use crate::support::broker::Broker;
use crate::support::secrets::SecretFile;
use crate::support::token::{self, HEADER, OTHER_SECRET, SECRET, VERSION, forgeries, honest};
use crate::support::trigger::Key;
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;

/// Everything that a broker prints or serves after polls of all kinds.
fn visible_output(broker: &Broker) -> String {
    let mut polls = vec![broker.poll(&Key::new(&honest("deployment_shown", VERSION)).version(VERSION))];
    for bad in forgeries("deployment_shown") {
        let mut client = broker.client();
        client.send(Key::new(&bad.token).version(bad.version).poll());
        polls.push(client);
    }
    // A token that cannot be parsed is a credential too.
    let unreadable = token::sign(SECRET, &format!("{}.{}", token::encode(HEADER), token::encode("{}")));
    let mut client = broker.client();
    client.send(Key::new(&unreadable).version(VERSION).poll());
    polls.push(client);
    let total = polls.len() as u64;
    broker.wait_until("every poll counted", || broker.counter("polls") + broker.counter("rejected") == total);
    broker.signal(Signal::SIGHUP);
    let pages = ["/status", "/metrics", "/cordon", "/healthz"];
    let mut shown: String = pages.iter().map(|page| broker.admin(page).text().to_owned()).collect();
    drop(polls);
    broker.wait_until_quiet();
    shown.push_str(&fs::read_to_string(format!("/proc/{}/cmdline", broker.pid())).expect("/proc"));
    shown + &broker.log()
}

fn assert_no_secret(shown: &str) {
    for secret in [SECRET, OTHER_SECRET] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    // Not even a part of a token: every header and payload begins with eyJ.
    assert!(!shown.contains("eyJ"), "a token is in {shown}");
    let good = honest("deployment_shown", VERSION);
    let signature = good.rsplit('.').next().expect("three parts");
    assert!(!shown.contains(signature), "a signature is in {shown}");
}

#[test]
fn secrets_are_not_in_logs_pages_or_the_command_line() {
    let file = SecretFile::new(&[SECRET, OTHER_SECRET]);
    for mode in ["log", "enforce"] {
        let broker = Broker::start(&format!("--workers 1 --log-level debug {}", file.flags(mode)));
        assert_no_secret(&visible_output(&broker));
        let variables = [("PILOTLIGHT_TOKEN_SECRET", SECRET)];
        let broker =
            Broker::with_variables(&variables, &format!("--workers 1 --log-level debug --token-mode {mode}"));
        assert_no_secret(&visible_output(&broker));
    }
    let broker = Broker::start("--workers 1 --log-level debug");
    let shown = visible_output(&broker);
    assert_no_secret(&shown);
    assert!(shown.contains("(a token)"), "{shown}");
}

#[test]
fn a_broker_with_a_secret_dumps_no_core() {
    let limit = |broker: &Broker| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", broker.pid())).expect("/proc");
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        line["Max core file size".len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let variables = [("WORKLOAD_TOKEN_SECRET", SECRET), ("WORKLOAD_TOKEN_ENFORCEMENT", "enforce")];
    let broker = Broker::with_variables(&variables, "--workers 1");
    assert_eq!(limit(&broker), ["0", "0"]);
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("log")));
    assert_eq!(limit(&broker), ["0", "0"]);
    // Without a secret the operator's limit stays. (The broker inherits this test's limit.)
    let own = Command::new("sh").args(["-c", "ulimit -Hc"]).output().expect("a shell");
    let broker = Broker::start("--workers 1");
    let hard = String::from_utf8(own.stdout).expect("text");
    assert_eq!(limit(&broker)[1] == "0", hard.trim() == "0");
}

#[test]
fn the_supervisors_variables_are_read() {
    let variables = [("WORKLOAD_TOKEN_SECRET", SECRET), ("WORKLOAD_TOKEN_ENFORCEMENT", "enforce")];
    let broker = Broker::with_variables(&variables, "--workers 1");
    let key = Key::new("deployment_variables").version(VERSION);
    assert_eq!(broker.client().ask(key.poll()).status, 401);
    let mut poll = broker.poll(&Key::new(&honest("deployment_variables", VERSION)).version(VERSION));
    broker.deliver(&key, &mut poll);
    // The broker's own flags override them.
    let broker = Broker::with_variables(&variables, "--workers 1 --token-mode disabled");
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
}
