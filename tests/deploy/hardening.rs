//! The unit's hardening, checked against the broker's system calls from start to end under strace(1).

use super::launch::{Serving, clean};
use super::product::BINARY;
use super::support::folder::Folder;
use super::tools;
use super::units::unit;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

pub fn permits_what_the_broker_does() {
    let folder = Folder::new("strace");
    let log = folder.path("log");
    let mut command = clean("strace");
    command.args(["-f", "-qq", "-s", "0", "-o"]).arg(&log);
    command.args([BINARY, "serve", "--cpus", &first_cpu(), "--shutdown-time", "0s"]);
    for side in ["LISTEN", "DISPATCH_LISTEN", "ADMIN_LISTEN"] {
        command.env(format!("PILOTLIGHT_{side}"), "127.0.0.1:0");
    }
    if let Err(error) = clean("strace").arg("-V").status() {
        assert_ne!(error.kind(), ErrorKind::NotFound, "strace is missing: apt-get install strace");
    }
    let mut serving = Serving::start(command);
    serving.assert_sides_are_separate_and_match();
    for path in ["/status", "/metrics", "/healthz"] {
        assert_eq!(serving.get(path), 200);
    }
    let strace = serving.pid();
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).expect("/proc");
    let broker = children.trim().parse().expect("one child");
    assert_eq!(serving.terminate(broker).code(), Some(0));

    let trace = fs::read_to_string(&log).expect("a trace");
    check(&trace);
}

fn check(trace: &str) {
    let service = unit("pilotlight.service");
    let allowed = allowed(&service.all("SystemCallFilter").collect::<Vec<_>>());
    let families = service.words("RestrictAddressFamilies");
    let mut calls = BTreeSet::new();
    for line in trace.lines() {
        // "PID name(arguments" or "PID <... name resumed>".
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let Some((name, arguments)) = line.split_once('(') else { continue };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        calls.insert(name);
        if name == "socket" {
            let family = arguments.split(',').next().expect("a family");
            assert!(families.contains(&family), "RestrictAddressFamilies forbids: {line}");
        }
        if ["mmap", "mprotect"].contains(&name) {
            assert!(
                !(line.contains("PROT_WRITE") && line.contains("PROT_EXEC")),
                "MemoryDenyWriteExecute forbids: {line}"
            );
        }
        if ["open", "openat", "creat"].contains(&name) {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
            assert!(!writes || line.contains("/dev/null"), "ProtectSystem forbids: {line}");
        }
    }
    for expected in ["accept4", "epoll_wait", "sched_setaffinity", "sendto"] {
        assert!(calls.contains(expected), "the trace does not show a broker that serves: {calls:?}");
    }
    let forbidden: Vec<_> = calls.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(forbidden.is_empty(), "SystemCallFilter forbids {forbidden:?}");
}

/// The system calls that the filter lines allow, with sets resolved as systemd does.
fn allowed(lines: &[&str]) -> BTreeSet<String> {
    let listed =
        tools::packaged("systemd-analyze", "systemd").args(["syscall-filter", "--no-pager"]).succeed();
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in listed.lines() {
        let word = line.trim();
        match line.starts_with('@') {
            true => current = word,
            false if word.is_empty() || word.starts_with('#') => (),
            false => sets.entry(current).or_default().push(word),
        }
    }
    let mut allowed = BTreeSet::new();
    for line in lines {
        let (removes, words) = line.strip_prefix('~').map_or((false, *line), |rest| (true, rest));
        let mut pending: Vec<&str> = words.split_whitespace().collect();
        while let Some(word) = pending.pop() {
            match word.starts_with('@') {
                true => pending.extend(sets.get(word).unwrap_or_else(|| panic!("{word} is not a set"))),
                false if removes => drop(allowed.remove(word)),
                false => drop(allowed.insert(word.to_owned())),
            }
        }
    }
    allowed
}

/// A CPU that this process may use.
fn first_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("CPUs");
    list.trim().split([',', '-']).next().expect("a CPU").to_owned()
}
