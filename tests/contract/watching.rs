//! Why a dispatch was cold: in the metrics, in /api/dispatches, in `explain` and in the log.

use crate::support::binary::binary;
use crate::support::broker::Broker;
use crate::support::trigger::Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// The numbers of cold dispatches by reason, summed over the workers, without zeros.
fn reasons(broker: &Broker) -> BTreeMap<String, u64> {
    let page = broker.admin("/metrics");
    let mut reasons = BTreeMap::new();
    for line in page.text().lines().filter(|line| line.starts_with("pilotlight_cold_total{")) {
        let (labels, count) = line.rsplit_once(' ').expect("a sample");
        let reason = labels.split("reason=\"").nth(1).expect("a reason").trim_end_matches("\"}");
        *reasons.entry(reason.to_owned()).or_insert(0) += count.parse::<u64>().expect("a number");
    }
    reasons.retain(|_, count| *count > 0);
    reasons
}

fn dispatches(broker: &Broker) -> Vec<Value> {
    broker.admin("/api/dispatches").json()["dispatches"].as_array().expect("dispatches").clone()
}

/// The reason does not depend on the workers that poll and dispatch arrive at.
#[test]
fn cold_reasons_are_the_same_on_every_worker() {
    for workers in [1, 4] {
        // In about one broker of 800, two of these keys share a bucket of the hint table. That broker
        // mixes up their reasons. The buckets change at every start.
        if let Err(seen) = check_cold_reasons(workers) {
            assert!(seen.values().all(|count| count % 8 == 0), "{seen:?}");
            check_cold_reasons(workers).expect("the right reasons");
        }
    }
}

/// Checks the reasons of 24 cold dispatches. Returns the numbers by reason if they are wrong.
fn check_cold_reasons(workers: usize) -> Result<(), BTreeMap<String, u64>> {
    let broker = Broker::start(&format!("--workers {workers}"));
    let (near, far) = (Key::fresh(), Key::fresh());
    let _polls = [broker.poll(&near.clone().version("1")), broker.poll(&near.clone().version("2").cpu("8"))];
    for _ in 0..8 {
        assert!(!broker.dispatch(&far.message()));
        assert!(!broker.dispatch(&near.clone().version("3").message()));
        assert!(!broker.dispatch(&near.clone().version("2").message()));
    }
    let expected = [("no_runner", 8), ("other_machine_size", 8), ("other_version", 8)];
    let expected = BTreeMap::from(expected.map(|(reason, count)| (reason.to_owned(), count)));
    let mut seen = BTreeMap::new();
    broker.wait_until("all reasons", || {
        seen = reasons(&broker);
        seen.values().sum::<u64>() == 24
    });
    assert_eq!(broker.counter("cold"), 24);
    if seen != expected {
        return Err(seen);
    }
    // Each dispatch, with the pool that came closest.
    broker.wait_until("24 dispatches", || dispatches(&broker).len() == 24);
    for one in dispatches(&broker) {
        assert_eq!(one["outcome"], "cold");
        assert!(one["run"].as_str().is_some_and(|run| run.starts_with("run_")), "{one}");
        assert_eq!(one["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let closest = one["closest"].as_str().unwrap_or_default();
        match one["reason"].as_str().expect("a reason") {
            "other_version" => assert!(closest.contains("waiting with version"), "{one}"),
            "other_machine_size" => assert_eq!(closest, "1 waiting with 8 vCPU, 0.25 GB"),
            "no_runner" => assert_eq!(closest, ""),
            other => panic!("{other}"),
        }
    }
    Ok(())
}

#[test]
fn explain_answers_in_the_terminal() {
    let broker = Broker::start("--workers 2");
    let key = Key::new("deployment_x").version("20260801.1");
    let _poll = broker.poll(&key);
    let url = format!("http://{}", broker.admin);
    let explain = |args: &[&str]| {
        let output = Command::new(binary()).arg("explain").args(args).args(["--admin", &url]).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (args, expected) in [
        (&["deployment_x"][..], "warm: 1 runner is ready"),
        (&["deployment_x", "--version", "20260801.2"], "cold: other version"),
        (&["deployment_x", "--cpu", "2"], "cold: other machine"),
        (&["deployment_y"], "cold: no runner"),
    ] {
        let said = explain(args);
        assert!(said.starts_with(expected), "{args:?}: {said}");
    }
    assert!(explain(&["deployment_x"]).contains("20260801.1, 0.5 vCPU, 0.25 GB"));
    let cordon = r#"{"deployment":"deployment_x"}"#;
    let request = format!(
        "POST /cordon HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{cordon}",
        cordon.len()
    );
    assert_eq!(crate::support::client::Client::connect(broker.admin).ask(request).status, 200);
    let said = explain(&["deployment_x"]);
    assert!(said.starts_with("cold: cordoned") && said.contains("pilotlight uncordon"), "{said}");
}

/// /api/settings shows every flag of `serve`.
#[test]
fn all_settings_are_shown() {
    let broker = Broker::start("--workers 1 --ack-timeout 250ms");
    let settings = broker.admin("/api/settings").json();
    assert_eq!(settings["--ack-timeout"], "250ms");
    let help = |flag| {
        let help = Command::new(binary()).args(["serve", flag]).output().expect("it runs").stdout;
        String::from_utf8(help).expect("UTF-8")
    };
    let help = help("--help") + &help("--help-advanced");
    let flags =
        help.lines().filter_map(|line| line.trim().split([' ', '=']).find(|word| word.starts_with("--")));
    let flags: Vec<&str> = flags.filter(|flag| help.contains(&format!("\n      {flag}"))).collect();
    assert!(flags.len() > 50, "{flags:?}");
    for flag in flags.into_iter().filter(|flag| !flag.starts_with("--help")) {
        assert!(settings[flag].is_string(), "{flag} is not shown");
    }
}

/// At level debug the log has one line for each event, with run and trace.
#[test]
fn events_are_logged_at_debug() {
    let broker = Broker::start("--workers 2 --log-level info,pilotlight::events=debug");
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
    assert!(!broker.dispatch(&key.message()));
    let line = |message: &str, holds: &str| {
        let log = broker.log();
        let found = log.lines().find(|line| line.contains(message) && line.contains(holds));
        found.map(str::to_owned)
    };
    broker.wait_until("a cold dispatch in the log", || {
        line("dispatch answered", "reason=\"no_runner\"").is_some()
    });
    let warm = line("dispatch answered", "outcome=\"warm\"").expect("a line");
    let deployment = format!("deployment=\"{}\"", key.deployment);
    for field in [
        &*deployment,
        "attempts=1",
        "cpu=0.5",
        "run=\"run_",
        "traceparent=\"00-0af7651916cd43dd8448eb211c80319c-",
    ] {
        assert!(warm.contains(field), "{field}: {warm}");
    }
    let attempt = line("delivery attempt ended", "end=\"confirmed\"").expect("a line");
    assert!(attempt.contains("node=\"node-1\"") && attempt.contains("took_us="), "{attempt}");
    assert!(line("poll held", "node-1").is_some());
}
