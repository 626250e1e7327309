//! What `/metrics` says, and that the documentation lists the same metrics.

use super::*;
use crate::broker::counters::Counters;
use crate::control::state::WorkerState;
use crate::control::tests::fake_workers::report;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The page with the table of all metrics.
const METRICS_DOC: &str = "docs/reference/metrics.md";

fn page(snapshot: Snapshot) -> String {
    let about =
        About { engine: "epoll", uptime: Duration::from_millis(1_500), shutting_down: true, confirm: "ack" };
    let facts = ProcessFacts {
        about,
        connections_max: 19_888,
        deployments_max: 1,
        spans: Arc::default(),
        figures: Figures::now(0),
    };
    render(facts, &Arc::new(snapshot))
}

fn two_workers() -> Snapshot {
    let state = |worker, stalled| WorkerState { report: report(worker, true), stalled };
    Snapshot { workers: vec![state(0, false), state(1, true)], with_keys: true }
}

#[test]
fn every_kind_of_metric_has_the_workers_values() {
    let mut snapshot = two_workers();
    for (worker, us) in [(0, 3), (0, 900), (1, 70_000), (1, 5_000_000_000)] {
        snapshot.workers[worker].report.times.delivery.record(us);
        snapshot.workers[worker].report.times.turns.record(us);
    }
    let page = page(snapshot);
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        &format!("pilotlight_build_info{{version=\"{version}\",engine=\"epoll\",confirm=\"ack\"}} 1"),
        "# TYPE pilotlight_dispatches counter",
        "pilotlight_dispatches_total{worker=\"0\",outcome=\"warm\"} 100",
        "pilotlight_dispatches_total{worker=\"1\",outcome=\"warm\"} 101",
        "pilotlight_dispatches_total{worker=\"1\",outcome=\"cold\"} 45",
        "pilotlight_dispatches_total{worker=\"1\",outcome=\"unconfirmed\"} 5",
        "pilotlight_cold_total{worker=\"1\",reason=\"no_runner\"} 40",
        "pilotlight_cold_total{worker=\"1\",reason=\"other_version\"} 5",
        "# UNIT pilotlight_received_bytes bytes",
        "pilotlight_received_bytes_total{worker=\"0\"} 1000",
        "pilotlight_waiting_polls{worker=\"1\"} 11",
        "pilotlight_deployment_waiting_polls{deployment=\"deployment_a\"} 13",
        "pilotlight_deployment_waiting_polls{deployment=\"(other)\"} 8",
        "pilotlight_worker_stalled{worker=\"0\"} 0",
        "pilotlight_worker_stalled{worker=\"1\"} 1",
        "pilotlight_shutting_down 1.0",
        "pilotlight_connections_limit 19888.0",
        "pilotlight_uptime_seconds 1.5",
        "# TYPE pilotlight_delivery_seconds histogram",
        "pilotlight_delivery_seconds_bucket{le=\"0.000032\"} 1",
        "pilotlight_delivery_seconds_bucket{le=\"0.001024\"} 2",
        "pilotlight_delivery_seconds_bucket{le=\"4.194304\"} 3",
        "pilotlight_delivery_seconds_bucket{le=\"+Inf\"} 4",
        "pilotlight_delivery_seconds_count 4",
        "pilotlight_loop_turn_seconds_bucket{le=\"+Inf\",worker=\"1\"} 2",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} is not in:\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn every_counter_is_in_metrics() {
    // Each counter has a value of its own, and each value must be found.
    let mut snapshot = two_workers();
    snapshot.workers.truncate(1);
    let counters = Counters::distinct(7_001);
    let expected: BTreeSet<u64> =
        FAMILIES.iter().flat_map(|family| family.members).map(|member| (member.of)(&counters)).collect();
    assert!(expected.len() > 30);
    snapshot.workers[0].report.counters = counters;
    let page = page(snapshot);
    let seen: BTreeSet<u64> = page.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert!(expected.is_subset(&seen), "{:?} are missing", expected.difference(&seen));
}

/// The name that a client gives a deployment cannot break a line or a label.
#[test]
fn names_are_escaped() {
    let mut snapshot = two_workers();
    snapshot.workers.truncate(1);
    snapshot.workers[0].report.keys.truncate(1);
    snapshot.workers[0].report.keys[0].deployment = "a\"} 1\nforged{x=\"\\".to_owned();
    let page = page(snapshot);
    let line = page.lines().find(|line| line.contains("forged")).expect("it is there");
    let expected = r#"pilotlight_deployment_waiting_polls{deployment="a\"} 1\nforged{x=\"\\"} 4"#;
    assert_eq!(line, expected);
}

/// The metrics as rows of a table: name, type, labels, help.
fn table(page: &str) -> String {
    let mut rows = BTreeMap::new();
    for (at, line) in page.lines().enumerate() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let help = page.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).expect(name);
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let samples = page.lines().skip(at).take_while(|next| *next == line || !next.starts_with("# TYPE "));
        let labels: BTreeSet<&str> = samples
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('{')?.1.rsplit_once('}'))
            .flat_map(|(labels, _)| labels.split("\",").map(|label| label.split('=').next().unwrap_or("")))
            .collect();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let help = help.trim_end_matches('.');
        let row = format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", "));
        assert!(rows.insert(name.to_owned(), row).is_none(), "{name} comes twice");
    }
    rows.into_values().collect()
}

#[test]
fn the_documentation_lists_every_metric() {
    const BEGIN: &str = "<!-- Written by `PILOTLIGHT_WRITE_METRICS=1 cargo test --lib documentation`: do not edit from here -->\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n";
    const END: &str = "\n<!-- to here -->\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(METRICS_DOC);
    let text = std::fs::read_to_string(&path).expect(METRICS_DOC);
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (written, after) = rest.split_once(END).expect("the table ends");
    let table = table(&page(two_workers()));
    assert!(table.lines().count() > 35, "{table}");
    if std::env::var_os("PILOTLIGHT_WRITE_METRICS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).expect("written");
    } else {
        assert_eq!(
            written, table,
            "{METRICS_DOC} is out of date: run PILOTLIGHT_WRITE_METRICS=1 cargo test --lib documentation"
        );
    }
}

#[test]
fn names_follow_the_conventions() {
    let page = page(two_workers());
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(name.starts_with("pilotlight_") || name.starts_with("process_"), "{name}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}
