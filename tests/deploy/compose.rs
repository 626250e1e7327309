//! The override for Trigger.dev's worker stack, merged with it by docker-compose.

use super::product::{BINARY, port, product, seconds};
use super::{image, launch, root, tools};
use serde_json::Value;
use std::net::Ipv4Addr;

const DOCKER_COMPOSE: &str = "docker-compose";

pub fn check(_: &str) {
    let files = ["tests/deploy/trigger-worker.yml", "deploy/compose/docker-compose.pilotlight.yml"];
    let files = files.iter().flat_map(|file| ["-f".into(), root().join(file)]);
    let merged = tools::packaged(DOCKER_COMPOSE, DOCKER_COMPOSE).args(files).args(["config"]).succeed();
    let merged: Value = serde_yaml_ng::from_str(&merged).expect("YAML");
    let services = merged["services"].as_object().expect("services");
    let (pilotlight, supervisor) = (&services["pilotlight"], &services["supervisor"]);

    networks(&merged, pilotlight, supervisor);
    settings(pilotlight, supervisor);

    let product = product();
    assert!(seconds(text(&pilotlight["stop_grace_period"])) > product.shutdown_max_s());
    assert_eq!(pilotlight["sysctls"]["net.core.somaxconn"], product.default("PILOTLIGHT_BACKLOG"));
    assert_eq!(pilotlight["read_only"], true);
    assert_eq!(pilotlight["cap_drop"][0], "ALL");
    // The image sets the user already.
    assert!(pilotlight["user"].is_null() || pilotlight["user"] == image::USER);
}

/// A runner can reach the runner side. Only the supervisor can reach the other two.
fn networks(merged: &Value, pilotlight: &Value, supervisor: &Value) {
    let runners: Vec<&str> = text(&supervisor["environment"]["DOCKER_RUNNER_NETWORKS"]).split(',').collect();
    let joined: Vec<&String> = pilotlight["networks"].as_object().expect("networks").keys().collect();
    assert!(joined.iter().any(|network| runners.contains(&network.as_str())), "{joined:?}, {runners:?}");
    assert!(!runners.contains(&"dispatch"));
    assert_eq!(merged["networks"]["dispatch"]["internal"], true);
    for (name, service) in merged["services"].as_object().expect("services") {
        let inside = service["networks"].get("dispatch").is_some();
        assert_eq!(inside, ["pilotlight", "supervisor"].contains(&name.as_str()), "{name}");
    }
    // The override adds a network to the supervisor and removes none.
    for network in ["supervisor", "docker-proxy", "webapp", "dispatch"] {
        assert!(supervisor["networks"].get(network).is_some(), "{network}");
    }

    let address: Ipv4Addr =
        text(&pilotlight["networks"]["dispatch"]["ipv4_address"]).parse().expect("an address");
    let ipam = &merged["networks"]["dispatch"]["ipam"]["config"][0];
    assert!(contains(text(&ipam["subnet"]), address), "{ipam}");
    assert!(!contains(text(&ipam["ip_range"]), address), "Docker may give it to the supervisor: {ipam}");
    for setting in ["PILOTLIGHT_DISPATCH_LISTEN", "PILOTLIGHT_ADMIN_LISTEN"] {
        let listen = text(&pilotlight["environment"][setting]);
        assert!(listen.starts_with(&format!("{address}:")), "{setting}: {listen} is not in `dispatch` only");
    }
}

fn settings(pilotlight: &Value, supervisor: &Value) {
    let product = product();
    let environment = pilotlight["environment"].as_object().expect("variables");
    product.assert_settings(environment.keys().map(String::as_str));
    let of = |name: &str| text(&environment[name]);
    assert_eq!(port(of("PILOTLIGHT_LISTEN")), product.port("PILOTLIGHT_LISTEN"));
    let supervisors = |name: &str| text(&supervisor["environment"][name]);
    let runner_url = format!("http://pilotlight:{}", port(of("PILOTLIGHT_LISTEN")));
    assert_eq!(supervisors("TRIGGER_WARM_START_URL"), runner_url);
    assert_eq!(
        supervisors("TRIGGER_WARM_START_DISPATCH_URL"),
        format!("http://{}", of("PILOTLIGHT_DISPATCH_LISTEN"))
    );
    assert_eq!(of("PILOTLIGHT_ADMIN"), format!("http://{}", of("PILOTLIGHT_ADMIN_LISTEN")));

    let command: Vec<&str> = pilotlight["command"].as_array().expect("words").iter().map(text).collect();
    let serving =
        launch::with_settings(command, environment.iter().map(|(name, value)| (name.as_str(), text(value))));
    serving.assert_sides_are_separate_and_match();
    // The health check succeeds on a running broker and fails without one.
    let check: Vec<&str> =
        pilotlight["healthcheck"]["test"].as_array().expect("words").iter().map(text).collect();
    assert_eq!(check[..2], ["CMD", "/pilotlight"]);
    let healthy = |admin: String| {
        let mut command = launch::clean(BINARY);
        command.args(&check[2..]).env("PILOTLIGHT_ADMIN", admin).stderr(std::process::Stdio::null());
        command.status().expect("run").success()
    };
    assert!(healthy(format!("http://{}", serving.admin)));
    let admin = format!("http://{}", serving.admin);
    drop(serving);
    assert!(!healthy(admin));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text"))
}

/// `network` is written as 10.0.0.0/8.
fn contains(network: &str, address: Ipv4Addr) -> bool {
    let (base, length) = network.split_once('/').expect("a network");
    let base: Ipv4Addr = base.parse().expect("an address");
    let shift = 32 - length.parse::<u32>().expect("a length");
    u32::from(base) >> shift == u32::from(address) >> shift
}
