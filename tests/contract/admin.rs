//! The admin side: /healthz, /readyz, /status, /metrics.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::trigger::{self, Key};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A broker with one warm dispatch, one cold dispatch, and two held polls of two keys.
fn busy(flags: &str) -> (Broker, [Key; 3], Vec<Client>) {
    let broker = Broker::start(flags);
    let keys = [Key::new("deployment_a"), Key::new("deployment_a").cpu("2"), Key::new("deployment_b")];
    let mut poll = broker.poll(&keys[0]);
    broker.deliver(&keys[0], &mut poll);
    drop(poll);
    assert!(!broker.dispatch(&keys[2].message()));
    assert_eq!(broker.client().ask(trigger::CONNECT).status, 200);
    assert_eq!(broker.client().ask("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
    let polls = vec![broker.poll(&keys[0]), broker.poll(&keys[1])];
    broker.wait_for("connections", 2);
    (broker, keys, polls)
}

#[test]
fn healthz_and_readyz() {
    let broker = Broker::start("--workers 2");
    for (path, body) in [("/healthz", json!({"healthy": true})), ("/readyz", json!({"ready": true}))] {
        let response = broker.admin(path);
        assert_eq!((response.status, response.json()), (200, body));
    }
    let response = broker.admin("/nowhere");
    assert_eq!((response.status, response.error().contains("/status")), (404, true));
    let mut client = Client::connect(broker.admin);
    assert_eq!(client.ask("POST /status HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").status, 405);
}

#[test]
fn status_counts_polls_and_dispatches() {
    let (broker, keys, _polls) = busy("--workers 2 --confirm ack");
    let page = broker.admin("/status");
    let top = r#"{"version":"#;
    assert!(page.text().starts_with(top), "{}", page.text());
    let status = page.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(["epoll", "io-uring"].contains(&status["engine"].as_str().expect("a name")));
    assert_eq!((&status["waiting"], &status["warm"], &status["cold"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!((&status["confirm"], &status["shutting_down"]), (&json!("ack"), &json!(false)));
    let workers = status["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 2);
    for (index, worker) in workers.iter().enumerate() {
        assert_eq!((&worker["worker"], &worker["stalled"]), (&json!(index), &json!(false)));
        assert!(worker.as_object().expect("an object").len() > 20, "{worker}");
    }
    for (name, count) in [
        ("connections", 2),
        ("waiting", 2),
        ("claimed", 0),
        ("warm", 1),
        ("cold", 1),
        ("unconfirmed", 0),
        ("polls", 3),
        ("connects", 1),
        ("rejected", 1),
        ("attempts", 1),
        ("attempts_confirmed", 1),
        ("accepted", 7),
        ("closed", 5),
        ("refused", 0),
    ] {
        assert_eq!(broker.counter(name), count, "{name}");
    }
    let rows = status["keys"].as_array().expect("keys");
    let row = |key: &Key| -> &Value {
        let same =
            |row: &&Value| row["deployment"] == key.deployment && row["cpu"].as_f64() == key.cpu.parse().ok();
        rows.iter().find(same).expect("a row")
    };
    assert_eq!(rows.len(), 3);
    for (key, waiting, warm, cold) in [(&keys[0], 1, 1, 0), (&keys[1], 1, 0, 0), (&keys[2], 0, 0, 1)] {
        let row = row(key);
        assert_eq!(row["version"], key.version);
        assert_eq!(row["memory"], 0.25);
        assert_eq!(
            (&row["waiting"], &row["warm"], &row["cold"]),
            (&json!(waiting), &json!(warm), &json!(cold))
        );
        assert!(row["oldest_wait_ms"].as_u64().is_some());
    }
}

/// The samples of a metrics page, by name and labels.
fn samples(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a sample"))
        .map(|(name, value)| (name, value.parse().expect(name)))
        .collect()
}

#[test]
fn metrics_are_valid_openmetrics() {
    let (broker, _, _polls) = busy("--workers 2 --max-connections 1000");
    let page = broker.admin("/metrics");
    let content_type = page.field("content-type").expect("a type");
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{content_type}");
    assert!(page.text().ends_with("# EOF\n"));
    let samples = samples(page.text());
    let sum = |family: &str, label: &str| -> f64 {
        let of = |name: &str| name.starts_with(&format!("{family}{{")) && name.contains(label);
        samples.iter().filter(|(name, _)| of(name)).map(|(_, value)| value).sum()
    };
    for (family, label, value) in [
        ("pilotlight_dispatches_total", "outcome=\"warm\"", 1.0),
        ("pilotlight_dispatches_total", "outcome=\"cold\"", 1.0),
        ("pilotlight_dispatches_total", "outcome=\"unconfirmed\"", 0.0),
        ("pilotlight_cold_total", "reason=\"no_runner\"", 1.0),
        ("pilotlight_attempts_ended_total", "end=\"confirmed\"", 1.0),
        ("pilotlight_polls_total", "", 3.0),
        ("pilotlight_waiting_polls", "", 2.0),
        ("pilotlight_connections", "", 2.0),
        ("pilotlight_requests_rejected_total", "", 1.0),
        ("pilotlight_worker_stalled", "worker=\"1\"", 0.0),
    ] {
        assert_eq!(sum(family, label), value, "{family} {label}");
    }
    assert_eq!(samples["pilotlight_connections_limit"], 1_000.0);
    assert_eq!(samples["pilotlight_shutting_down"], 0.0);
    // Every family has a HELP and a TYPE line.
    for name in samples.keys() {
        let name = name.split('{').next().expect("a name");
        let suffixes = ["_total", "_info", "_bucket", "_sum", "_count"];
        let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        for comment in ["HELP", "TYPE"] {
            assert!(page.text().contains(&format!("# {comment} {family} ")), "{comment} {family}");
        }
    }
}

/// Admin clients that do not read their responses delay no run.
#[test]
fn slow_admin_clients_delay_nothing() {
    let broker = Broker::start("--workers 1");
    let key = Key::fresh();
    let slow: Vec<Client> = (0..80)
        .map(|index| {
            let mut client = Client::connect(broker.admin);
            let requests = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1 + index % 30);
            let _ = client.try_send(&requests.as_bytes()[..requests.len() - index % 2]);
            client
        })
        .collect();
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
    assert_eq!(broker.admin("/readyz").status, 200);
    drop(slow);
}
