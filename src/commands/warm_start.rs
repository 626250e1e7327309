//! The requests of runners and supervisors, for commands that act as one (CONTRACT.md describes them).

use super::client::Request;
use hyper::Method;
use std::fmt::Display;

/// The route of polls and dispatches.
const PATH: &str = "/warm-start";
/// cpu and memory of every runner and run of these commands.
const MACHINE_SIZE: &str = "0.5";

/// The key of a poll or a run; its machine size is always the same.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub deployment: &'a str,
    pub version: &'a str,
}

impl Key<'_> {
    /// The header fields of a poll. `controller` is also the name of the runner's node.
    fn poll_fields<'a>(&'a self, controller: &'a str) -> [(&'static str, &'a str); 6] {
        [
            ("x-trigger-workload-controller-id", controller),
            ("x-trigger-deployment-id", self.deployment),
            ("x-trigger-deployment-version", self.version),
            ("x-trigger-machine-cpu", MACHINE_SIZE),
            ("x-trigger-machine-memory", MACHINE_SIZE),
            ("x-trigger-worker-instance-name", controller),
        ]
    }

    /// The body of a dispatch.
    fn dispatch_body(&self, run: &str) -> String {
        let Key { deployment, version } = self;
        format!(
            r#"{{"dequeuedMessage":{{"version":"1","deployment":{{"friendlyId":"{deployment}"}},"backgroundWorker":{{"version":"{version}"}},"run":{{"friendlyId":"{run}","machine":{{"name":"small-1x","cpu":{MACHINE_SIZE},"memory":{MACHINE_SIZE}}}}}}}}}"#
        )
    }

    /// `GET /warm-start` as a runner sends it.
    pub fn poll(&self, controller: &str) -> Request {
        let fields = self.poll_fields(controller);
        fields.into_iter().fold(Request::get(PATH), |request, (name, value)| request.with_field(name, value))
    }

    /// `POST /warm-start` as a supervisor sends it.
    pub fn dispatch(&self, run: &str) -> Request {
        Request::get(PATH).with_json(Method::POST, self.dispatch_body(run).into_bytes())
    }

    /// The bytes of [`Key::poll`], for a client that writes them itself.
    pub fn poll_bytes(&self, host: impl Display, controller: &str) -> Vec<u8> {
        let fields = self.poll_fields(controller);
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").into_bytes()
    }

    /// The bytes of [`Key::dispatch`], with a body of at least `body_bytes`. An extra member fills the body: the broker
    /// passes on members that it does not know.
    pub fn dispatch_bytes(&self, host: impl Display, run: &str, body_bytes: usize) -> Vec<u8> {
        let mut body = self.dispatch_body(run);
        let missing = body_bytes.saturating_sub(body.len() + r#","filler":"""#.len());
        if missing > 0 {
            body.truncate(body.len() - "}}".len());
            body += &format!(r#","filler":"{}"}}}}"#, "x".repeat(missing));
        }
        let length = body.len();
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatch_is_json_of_the_requested_size() {
        let key = Key { deployment: "deployment_x", version: "1" };
        for bytes in [0, 300, 1_500] {
            let request = String::from_utf8(key.dispatch_bytes("h:1", "run_1", bytes)).unwrap();
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(bytes == 0 || body.len() == bytes, "{} {bytes}", body.len());
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["dequeuedMessage"]["deployment"]["friendlyId"], "deployment_x");
            assert_eq!(body["dequeuedMessage"]["run"]["friendlyId"], "run_1");
        }
    }
}
