//! Checks `/metrics`, the alert rules and their tests with promtool, and that the alerts and the dashboard query metrics
//! that exist.

#[path = "support/mod.rs"]
mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use support::broker::Broker;
use support::trigger::Key;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/pilotlight.json";

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs promtool (Debian's package `prometheus`): whether it succeeded, and its output.
#[track_caller]
fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: apt-get install prometheus");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

/// `/metrics` of a broker, with every kind of sample.
fn page() -> String {
    let broker = Broker::start("--workers 2");
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    broker.deliver(&key, &mut poll);
    drop(poll);
    let held = broker.poll(&key);
    assert!(!broker.dispatch(&Key::fresh().message()));
    let page = broker.admin("/metrics").text().to_owned();
    drop(held);
    page
}

/// The kinds of the metric families, by name.
fn families(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

/// Converts to the older text format, which promtool checks: a counter's family is named as its sample, and there are
/// no units and no EOF line.
fn as_older_format(page: &str) -> String {
    let families = families(page);
    let renamed = |name: &str| match families.get(name) {
        Some(&"counter") => format!("{name}_total"),
        Some(&"info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let mut lines = Vec::new();
    for line in page.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(comment), Some(name), Some(rest)) => {
                let rest = if comment == "TYPE" && rest == "info" { "gauge" } else { rest };
                lines.push(format!("# {comment} {} {rest}", renamed(name)));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn metrics_pass_promtool() {
    let page = page();
    let (valid, output) = promtool(&["check", "metrics"], &as_older_format(&page));
    assert!(valid && output.is_empty(), "{output}");
    // promtool does find faults: a counter without its suffix, a family without help.
    let (valid, output) = promtool(&["check", "metrics"], "# TYPE a_thing counter\na_thing 1\n");
    assert!(!valid && output.contains("_total") && output.contains("help"), "{output}");
}

#[test]
fn alerts_pass_their_tests() {
    for args in [
        &["check", "config", "deploy/prometheus/prometheus.yml"][..],
        &["check", "rules", ALERTS],
        &["test", "rules", "deploy/prometheus/alerts.test.yml"],
    ] {
        let (valid, output) = promtool(args, "");
        assert!(valid && output.contains("SUCCESS"), "{args:?}: {output}");
    }
    // Every alert has a test.
    let tests = read("deploy/prometheus/alerts.test.yml");
    let alerts = read(ALERTS);
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(
            tests.matches(&format!("alertname: {name}")).count() >= 2,
            "{name} needs a test that it fires and one that it does not"
        );
    }
}

/// The names of metrics in a text of queries.
fn queried(text: &str) -> BTreeSet<&str> {
    let words = text.split(|next: char| !(next.is_ascii_alphanumeric() || next == '_'));
    words.filter(|word| word.starts_with("pilotlight_") || word.starts_with("process_")).collect()
}

/// The names of the samples.
fn samples(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[test]
fn alerts_and_dashboard_query_metrics_that_exist() {
    let page = page();
    let existing = samples(&page);
    let alerts = read(ALERTS);
    let mut expressions: Vec<String> = alerts.lines().map(str::to_owned).collect();
    // A description may name a family without its suffix.
    expressions.retain(|line| !line.contains("description:"));
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let queries = queries(&dashboard);
    assert!(queries.len() > 40, "{}", queries.len());
    expressions.extend(queries.iter().map(|(_, query)| query.clone()));
    let text = expressions.join("\n");
    let names = queried(&text);
    let missing: Vec<&&str> = names.iter().filter(|name| !existing.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in /metrics");
    // The dashboard shows every metric.
    let shown: BTreeSet<String> =
        queries.iter().flat_map(|(_, query)| queried(query)).map(str::to_owned).collect();
    for (family, kind) in families(&page) {
        let name = match kind {
            "counter" => format!("{family}_total"),
            "histogram" => format!("{family}_bucket"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        assert!(shown.contains(&name), "{name} is not on the dashboard");
    }
}

/// The title of a panel and one of its queries, for every query of the dashboard.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target))
    });
    let query = |target: &Value| target["expr"].as_str().expect("a query").to_owned();
    targets.map(|(title, target)| (title, query(&target))).collect()
}

#[test]
fn every_query_of_the_dashboard_is_valid() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    // promtool parses rules. Grafana's variables are replaced by values.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (index, (title, query)) in queries(&dashboard).into_iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        assert!(!query.contains('$'), "{title}: {query}");
        rules += &format!("  - record: panel:{index}\n    expr: {}\n", Value::String(query));
    }
    let file = std::env::temp_dir().join(format!("pilotlight-dashboard-{}.yml", std::process::id()));
    fs::write(&file, rules).expect("written");
    let (valid, output) = promtool(&["check", "rules", file.to_str().expect("UTF-8")], "");
    fs::remove_file(&file).expect("removed");
    assert!(valid, "{output}");
}

/// The ids and places of panels do not collide, and the data source exists.
#[test]
fn the_dashboard_is_consistent() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36) && dashboard["uid"] == "pilotlight");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(side("x") + side("w") <= 24, "{panel}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
        let kinds = ["row", "stat", "timeseries", "heatmap"];
        assert!(kinds.contains(&panel["type"].as_str().expect("a type")), "{panel}");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            let targets = panel["targets"].as_array().expect("targets");
            let references: BTreeSet<&str> =
                targets.iter().map(|target| target["refId"].as_str().expect("a reference")).collect();
            assert!(!targets.is_empty() && references.len() == targets.len(), "{panel}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<&str> =
        variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["datasource", "instance"]);
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(source.contains("type: prometheus") && source.contains("url: http"));
    let provider = read("deploy/grafana/provisioning/dashboards/pilotlight.yml");
    assert!(provider.contains("type: file") && provider.contains("path: /var/lib/grafana/dashboards"));
}
