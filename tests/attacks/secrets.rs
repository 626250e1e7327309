//! Where the secret and the tokens must not be found.

use crate::support::broker::Broker;
use crate::support::secrets::SecretFile;
use crate::support::token::{self, HEADER, OTHER_SECRET, SECRET, VERSION, forgeries, honest};
use crate::support::trigger::Key;
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;

/// Everything that a broker says to anybody, after polls of all kinds.
fn everything_said(broker: &Broker) -> String {
    let mut polls = vec![broker.poll(&Key::new(&honest("deployment_said", VERSION)).version(VERSION))];
    for bad in forgeries("deployment_said") {
        let mut client = broker.client();
        client.send(Key::new(&bad.token).version(bad.version).poll());
        polls.push(client);
    }
    // What could not be read is a credential all the same.
    let unreadable = token::sign(SECRET, &format!("{}.{}", token::encode(HEADER), token::encode("{}")));
    let mut client = broker.client();
    client.send(Key::new(&unreadable).version(VERSION).poll());
    polls.push(client);
    let total = polls.len() as u64;
    broker.wait_until("all seen", || broker.counter("polls") + broker.counter("rejected") == total);
    broker.signal(Signal::SIGHUP);
    let pages = ["/status", "/metrics", "/cordon", "/healthz"];
    let mut said: String = pages.iter().map(|page| broker.admin(page).text().to_owned()).collect();
    drop(polls);
    broker.wait_until_quiet();
    said.push_str(&fs::read_to_string(format!("/proc/{}/cmdline", broker.pid())).expect("/proc"));
    said + &broker.log()
}

fn holds_no_secret(said: &str) {
    for secret in [SECRET, OTHER_SECRET] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    // Not even a part of a token: eyJ is how every header and payload begins.
    assert!(!said.contains("eyJ"), "a token is in {said}");
    let good = honest("deployment_said", VERSION);
    let signature = good.rsplit('.').next().expect("three parts");
    assert!(!said.contains(signature), "a signature is in {said}");
}

#[test]
fn not_in_logs_pages_or_the_command_line() {
    let file = SecretFile::new(&[SECRET, OTHER_SECRET]);
    for mode in ["log", "enforce"] {
        let broker = Broker::start(&format!("--workers 1 --log-level debug {}", file.flags(mode)));
        holds_no_secret(&everything_said(&broker));
        let variables = [("PILOTLIGHT_TOKEN_SECRET", SECRET)];
        let broker =
            Broker::with_variables(&variables, &format!("--workers 1 --log-level debug --token-mode {mode}"));
        holds_no_secret(&everything_said(&broker));
    }
    let broker = Broker::start("--workers 1 --log-level debug");
    let said = everything_said(&broker);
    holds_no_secret(&said);
    assert!(said.contains("(a token)"), "{said}");
}

#[test]
fn no_core_dump_once_there_is_a_secret() {
    let limit = |broker: &Broker| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", broker.pid())).expect("/proc");
        let line = limits.lines().find(|line| line.starts_with("Max worker file size")).expect("a limit");
        line["Max worker file size".len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let variables = [("WORKLOAD_TOKEN_SECRET", SECRET), ("WORKLOAD_TOKEN_ENFORCEMENT", "enforce")];
    let broker = Broker::with_variables(&variables, "--workers 1");
    assert_eq!(limit(&broker), ["0", "0"]);
    let file = SecretFile::new(&[SECRET]);
    let broker = Broker::start(&format!("--workers 1 {}", file.flags("log")));
    assert_eq!(limit(&broker), ["0", "0"]);
    // Where there is none, what the operator has set stays. (The test's own limit was handed down.)
    let own = Command::new("sh").args(["-c", "ulimit -Hc"]).output().expect("a shell");
    let broker = Broker::start("--workers 1");
    let hard = String::from_utf8(own.stdout).expect("text");
    assert_eq!(limit(&broker)[1] == "0", hard.trim() == "0");
}

#[test]
fn the_supervisors_variables_are_ours() {
    let variables = [("WORKLOAD_TOKEN_SECRET", SECRET), ("WORKLOAD_TOKEN_ENFORCEMENT", "enforce")];
    let broker = Broker::with_variables(&variables, "--workers 1");
    let key = Key::new("deployment_variables").version(VERSION);
    assert_eq!(broker.client().ask(key.poll()).status, 401);
    let mut poll = broker.poll(&Key::new(&honest("deployment_variables", VERSION)).version(VERSION));
    broker.deliver(&key, &mut poll);
    // And what they say is overruled by what we are told ourselves.
    let broker = Broker::with_variables(&variables, "--workers 1 --token-mode disabled");
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
}
