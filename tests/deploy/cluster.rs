//! The Helm values, rendered by Helm's engine and checked against Kubernetes' schemas and the binary.

use super::product::{port, product};
use super::support::folder::Folder;
use super::{image, launch, root, tools};
use serde_json::{Value, json};
use std::fs;
use std::process::Output;

const VALUES: &str = "deploy/helm/values-pilotlight.yaml";
/// The oldest supported version, and the newest version with a schema.
const KUBERNETES: [&str; 2] = ["1.27", "1.37"];

fn render(values: &std::path::Path) -> Output {
    tools::python_package("python")
        .args([root().join("tests/deploy/render.py"), root().join("tests/deploy/chart"), values.to_owned()])
        .args(KUBERNETES)
        .output()
}

pub fn check(_: &str) {
    let output = render(&root().join(VALUES));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifests: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of_kind = |kind: &str| -> Vec<&Value> {
        manifests.iter().filter(|manifest| manifest["kind"] == kind).collect()
    };
    let [deployment] = of_kind("Deployment")[..] else { panic!("one Deployment") };
    let [supervisor] = of_kind("Pod")[..] else { panic!("the supervisor") };
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(deployment["spec"]["replicas"], 1, "each replica knows only its own runners");
    assert_eq!(of_kind("Service").len(), 3);

    container_fits(pod, container);
    let labels = &pod["metadata"]["labels"];
    assert!(matches(&deployment["spec"]["selector"], labels));
    assert!(
        !matches(&selector(&supervisor["metadata"]["labels"]), labels),
        "the selector also matches the supervisor"
    );

    let environment = |name: &str| variable(&supervisor["spec"]["containers"][0], name);
    for (name, setting) in [
        ("TRIGGER_WARM_START_URL", "PILOTLIGHT_LISTEN"),
        ("TRIGGER_WARM_START_DISPATCH_URL", "PILOTLIGHT_DISPATCH_LISTEN"),
    ] {
        let reached = behind(&environment(name), &of_kind("Service"), pod);
        assert_eq!(reached, port(&variable(container, setting)), "{name} does not lead to {setting}");
    }

    let [policy] = of_kind("NetworkPolicy")[..] else { panic!("one NetworkPolicy") };
    policy_holds(policy, pod, container, &supervisor["metadata"]["labels"]);

    let [budget] = of_kind("PodDisruptionBudget")[..] else { panic!("one PodDisruptionBudget") };
    assert!(matches(&budget["spec"]["selector"], labels));
    let [monitor] = of_kind("ServiceMonitor")[..] else { panic!("one ServiceMonitor") };
    monitored(monitor, &of_kind("Service"), pod, container);
}

/// Settings, probes and times match the binary.
fn container_fits(pod: &Value, container: &Value) {
    let product = product();
    let variables = container["env"].as_array().expect("variables");
    let settings: Vec<(&str, &str)> =
        variables.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect();
    product.assert_settings(settings.iter().map(|(name, _)| *name));
    let args: Vec<&str> = container["args"].as_array().expect("words").iter().map(text).collect();
    let serving = launch::with_settings(args, settings.iter().copied());
    serving.assert_sides_are_separate_and_match();
    for probe in ["readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(named_port(pod, &get["port"]), port(&variable(container, "PILOTLIGHT_ADMIN_LISTEN")));
        assert_eq!(serving.get(text(&get["path"])), 200, "{probe}");
    }
    assert_eq!(serving.get("/metrics"), 200);

    assert!(
        pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds") > product.shutdown_max_s()
    );
    assert_eq!(pod["spec"]["enableServiceLinks"], false);
    assert_eq!(pod["spec"]["securityContext"]["runAsUser"].to_string(), image::USER);
    assert_eq!(text(&container["image"]), concat!("pilotlight:", env!("CARGO_PKG_VERSION")));
    let security = &container["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
}

/// The port of the pod behind `http://service:port`.
fn behind(url: &str, services: &[&Value], pod: &Value) -> u16 {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).expect(url);
    let service = services.iter().find(|service| service["metadata"]["name"] == host);
    let service = service.unwrap_or_else(|| panic!("{url}: no such Service"));
    assert!(matches(&selector(&service["spec"]["selector"]), &pod["metadata"]["labels"]));
    let ports = service["spec"]["ports"].as_array().expect("ports");
    assert_eq!(ports.len(), 1, "a Service with two sides cannot be hidden from runners");
    assert_eq!(ports[0]["port"], port(url));
    named_port(pod, &ports[0]["targetPort"])
}

/// The policy covers all ports and admits the right peers to each.
fn policy_holds(policy: &Value, pod: &Value, container: &Value, supervisor: &Value) {
    assert!(matches(&policy["spec"]["podSelector"], &pod["metadata"]["labels"]));
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"], json!([]));
    // The labels that Trigger.dev's supervisor gives the pods that it starts.
    let runner = json!({"app": "task-run", "app.kubernetes.io/part-of": "trigger-worker", "app.kubernetes.io/component": "create"});
    // Whether a runner and the supervisor, in the release's namespace, may connect.
    let sides = [
        ("PILOTLIGHT_LISTEN", (true, true)),
        ("PILOTLIGHT_DISPATCH_LISTEN", (false, true)),
        ("PILOTLIGHT_ADMIN_LISTEN", (false, false)),
    ];
    let rules = policy["spec"]["ingress"].as_array().expect("rules");
    assert_eq!(rules.len(), sides.len());
    for (setting, expected) in sides {
        let side = port(&variable(container, setting));
        let rule = rules.iter().find(|rule| rule["ports"] == json!([{"port": side}]));
        let rule = rule.unwrap_or_else(|| panic!("no rule for {setting} alone"));
        let peers = rule["from"].as_array().expect("a rule without `from` admits all peers");
        assert!(!peers.is_empty());
        let admits = |labels: &Value| {
            peers
                .iter()
                .any(|peer| peer.get("namespaceSelector").is_none() && matches(&peer["podSelector"], labels))
        };
        assert_eq!((admits(&runner), admits(supervisor)), expected, "{setting}");
    }
    let declared: Vec<u64> = container["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| port["containerPort"].as_u64().expect("a port"))
        .collect();
    assert_eq!(declared, sides.map(|(setting, _)| u64::from(port(&variable(container, setting)))));
}

/// The ServiceMonitor finds one Service and its metrics. It has no schema here, so no other field is allowed.
fn monitored(monitor: &Value, services: &[&Value], pod: &Value, container: &Value) {
    let found: Vec<_> = services
        .iter()
        .filter(|service| matches(&monitor["spec"]["selector"], &service["metadata"]["labels"]))
        .collect();
    assert_eq!(found.len(), 1);
    let expected =
        json!({"port": found[0]["spec"]["ports"][0]["name"], "path": "/metrics", "interval": "15s"});
    assert_eq!(monitor["spec"]["endpoints"], json!([expected]));
    assert_eq!(monitor["spec"].as_object().expect("fields").len(), 2);
    let target = named_port(pod, &found[0]["spec"]["ports"][0]["targetPort"]);
    assert_eq!(target, port(&variable(container, "PILOTLIGHT_ADMIN_LISTEN")));
}

/// The schemas refuse a field that does not exist and a value of the wrong type.
pub fn mistakes_are_refused() {
    let right = fs::read_to_string(root().join(VALUES)).expect("read");
    for (from, to) in [
        ("minAvailable: 1", "minAvailible: 1"),
        ("- port: 8041\n", "- port: [8041]\n"),
        ("replicas: 1", "replicas: one"),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from}");
        let folder = Folder::new("values");
        let path = folder.as_ref().join("values.yaml");
        fs::write(&path, wrong).expect("written");
        let output = render(&path);
        assert!(!output.status.success(), "{to} was accepted");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Kubernetes 1.27"), "{to}: {said}");
    }
}

/// A LabelSelector with matchLabels only. An empty one matches everything.
fn matches(selector: &Value, labels: &Value) -> bool {
    let fields = selector.as_object().unwrap_or_else(|| panic!("{selector} is not a selector"));
    assert!(fields.keys().all(|field| field == "matchLabels"), "{selector}");
    let wanted = fields.get("matchLabels").and_then(Value::as_object);
    wanted.into_iter().flatten().all(|(name, value)| labels.get(name) == Some(value))
}

fn selector(labels: &Value) -> Value {
    json!({"matchLabels": labels})
}

fn named_port(pod: &Value, name: &Value) -> u16 {
    let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("ports");
    let port = ports.iter().find(|port| port["name"] == *name).unwrap_or_else(|| panic!("no port {name}"));
    port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port")
}

fn variable(container: &Value, name: &str) -> String {
    let variables = container["env"].as_array().expect("variables");
    let variable = variables.iter().find(|variable| variable["name"] == name);
    text(&variable.unwrap_or_else(|| panic!("no {name}"))["value"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text"))
}
