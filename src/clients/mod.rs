//! Runners and supervisors of our own, as simple as can be: to show what the broker does, to try
//! whether it does it, and to measure how fast.

pub mod bench;
pub mod check;
pub mod demo;
mod http;

/// What names a key: of the machine only that it is the same on both sides.
struct Key<'a> {
    deployment: &'a str,
    version: &'a str,
}

impl Key<'_> {
    /// `GET /warm-start` as a runner sends it.
    fn poll(&self, host: impl std::fmt::Display, controller: &str) -> String {
        let Key { deployment, version } = self;
        format!(
            "GET /warm-start HTTP/1.1\r\nHost: {host}\r\n\
             x-trigger-workload-controller-id: {controller}\r\nx-trigger-deployment-id: {deployment}\r\n\
             x-trigger-deployment-version: {version}\r\nx-trigger-machine-cpu: 0.5\r\n\
             x-trigger-machine-memory: 0.5\r\nx-trigger-worker-instance-name: {controller}\r\n\r\n"
        )
    }

    /// `POST /warm-start` as a supervisor sends it.
    fn dispatch(&self, host: impl std::fmt::Display, run: &str) -> String {
        self.dispatch_of(host, run, 0)
    }

    /// The same, with a body of at least `body_bytes`: what the broker does not know it passes on.
    fn dispatch_of(&self, host: impl std::fmt::Display, run: &str, body_bytes: usize) -> String {
        let Key { deployment, version } = self;
        let known = format!(
            r#"{{"dequeuedMessage":{{"version":"1","deployment":{{"friendlyId":"{deployment}"}},"backgroundWorker":{{"version":"{version}"}},"run":{{"friendlyId":"{run}","machine":{{"name":"small-1x","cpu":0.5,"memory":0.5}}}}"#
        );
        let body = match body_bytes.saturating_sub(known.len() + r#","filler":""}}"#.len()) {
            0 => format!("{known}}}}}"),
            missing => format!(r#"{known},"filler":"{}"}}}}"#, "x".repeat(missing)),
        };
        let bytes = body.len();
        format!(
            "POST /warm-start HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n{body}"
        )
    }
}
