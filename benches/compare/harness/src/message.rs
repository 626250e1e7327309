//! The requests of both sides, with a run's and a deployment's number patched in place.

use memchr::memmem;

const DISPATCH: &str = include_str!("../../load/dispatch.json");
const RUN: &str = "run_bench000000000000";
const DEPLOYMENT: &str = "deployment_bench00000000";
const RUN_DIGITS: usize = 12;
const DEPLOYMENT_DIGITS: usize = 8;

/// `POST /warm-start` with a message for one run of one deployment.
pub struct Dispatch {
    bytes: Vec<u8>,
    run_at: usize,
    deployment_at: usize,
}

impl Default for Dispatch {
    fn default() -> Self {
        let bytes = format!(
            "POST /warm-start HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\naccept: */*\r\n\
             accept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
             accept-encoding: gzip, deflate\r\ncontent-length: {}\r\n\r\n{DISPATCH}",
            DISPATCH.len()
        )
        .into_bytes();
        let end_of =
            |name: &str| memmem::find(&bytes, name.as_bytes()).expect("the load's message") + name.len();
        let (run_at, deployment_at) = (end_of(RUN) - RUN_DIGITS, end_of(DEPLOYMENT) - DEPLOYMENT_DIGITS);
        Dispatch { bytes, run_at, deployment_at }
    }
}

impl Dispatch {
    pub fn request(&mut self, run: u64, key: u32) -> &[u8] {
        write_digits(&mut self.bytes[self.run_at..][..RUN_DIGITS], run);
        write_digits(&mut self.bytes[self.deployment_at..][..DEPLOYMENT_DIGITS], key.into());
        &self.bytes
    }
}

/// `GET /warm-start` of a runner of one deployment.
pub struct Poll {
    bytes: Vec<u8>,
    deployment_at: usize,
}

impl Default for Poll {
    fn default() -> Self {
        let bytes = format!(
            "GET /warm-start HTTP/1.1\r\nhost: 127.0.0.1\r\n\
             x-trigger-workload-controller-id: controller_cmbq3v1k20004l508h2d9c7xe\r\n\
             x-trigger-deployment-id: {DEPLOYMENT}\r\nx-trigger-deployment-version: 20260714.3\r\n\
             x-trigger-machine-cpu: 0.5\r\nx-trigger-machine-memory: 0.5\r\n\
             x-trigger-worker-instance-name: worker-eu-central-1-07\r\naccept: */*\r\naccept-language: *\r\n\
             sec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n\r\n"
        )
        .into_bytes();
        let name_at = memmem::find(&bytes, DEPLOYMENT.as_bytes()).expect("the deployment's header");
        let deployment_at = name_at + DEPLOYMENT.len() - DEPLOYMENT_DIGITS;
        Poll { bytes, deployment_at }
    }
}

impl Poll {
    pub fn request(&mut self, key: u32) -> &[u8] {
        write_digits(&mut self.bytes[self.deployment_at..][..DEPLOYMENT_DIGITS], key.into());
        &self.bytes
    }
}

/// The run that a message is for.
pub fn run_of(body: &[u8]) -> Option<u64> {
    let prefix = &RUN[..RUN.len() - RUN_DIGITS];
    let at = memmem::find(body, prefix.as_bytes())? + prefix.len();
    std::str::from_utf8(body.get(at..at + RUN_DIGITS)?).ok()?.parse().ok()
}

fn write_digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatch_carries_its_run_and_its_deployment() {
        let mut dispatch = Dispatch::default();
        let request = dispatch.request(1234, 77);
        let body_at = memmem::find(request, b"\r\n\r\n").unwrap() + 4;
        let body: serde_json::Value = serde_json::from_slice(&request[body_at..]).unwrap();
        assert_eq!(body["dequeuedMessage"]["run"]["friendlyId"], "run_bench000000001234");
        assert_eq!(body["dequeuedMessage"]["deployment"]["friendlyId"], "deployment_bench00000077");
        assert_eq!(run_of(&request[body_at..]), Some(1234));
    }
}
