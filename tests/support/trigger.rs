//! The requests that Trigger.dev's runners and supervisors send.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A `GET /connect`.
pub const CONNECT: &[u8] = b"GET /connect HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\n\r\n";

/// The key that a run and a runner must share. Numbers are text, as a client writes them.
#[derive(Clone, Debug)]
pub struct Key {
    pub deployment: String,
    pub version: String,
    pub cpu: String,
    pub memory: String,
}

impl Key {
    pub fn new(deployment: &str) -> Key {
        Key {
            deployment: deployment.to_owned(),
            version: "20260728.3".to_owned(),
            cpu: "0.5".to_owned(),
            memory: "0.25".to_owned(),
        }
    }

    /// A key that no other call returns.
    pub fn fresh() -> Key {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Key::new(&format!("deployment_{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn version(mut self, version: &str) -> Key {
        self.version = version.to_owned();
        self
    }

    pub fn cpu(mut self, cpu: &str) -> Key {
        self.cpu = cpu.to_owned();
        self
    }

    pub fn memory(mut self, memory: &str) -> Key {
        self.memory = memory.to_owned();
        self
    }

    /// The header fields of a poll for this key.
    pub fn fields(&self) -> String {
        let Key { deployment, version, cpu, memory } = self;
        format!(
            "x-trigger-workload-controller-id: controller_1\r\n\
             x-trigger-deployment-id: {deployment}\r\n\
             x-trigger-deployment-version: {version}\r\n\
             x-trigger-machine-cpu: {cpu}\r\n\
             x-trigger-machine-memory: {memory}\r\n\
             x-trigger-worker-instance-name: node-1\r\n"
        )
    }

    /// A runner's poll.
    pub fn poll(&self) -> String {
        let fields = self.fields();
        format!(
            "GET /warm-start HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\n{fields}\
             accept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
             accept-encoding: gzip, deflate\r\n\r\n"
        )
    }

    /// A DequeuedMessage of the usual size, with a new run on every call.
    pub fn message(&self) -> String {
        self.message_with("")
    }

    /// A DequeuedMessage with `output` in its completed waitpoint: the inside of a JSON string.
    pub fn message_with(&self, output: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let run = COUNT.fetch_add(1, Ordering::Relaxed);
        let Key { deployment, version, cpu, memory } = self;
        format!(
            r#"{{"version":"1","snapshot":{{"id":"cm0snapshot{run}","friendlyId":"snapshot_{run}","executionStatus":"PENDING_EXECUTING","description":"Run was dequeued for execution","createdAt":"2026-07-28T12:00:00.000Z"}},"dequeuedAt":"2026-07-28T12:00:00.001Z","workerQueueLength":3,"image":"registry.example/project/deployment:20260728.3","completedWaitpoints":[{{"id":"cm0waitpoint{run}","type":"RUN","completedAt":"2026-07-28T11:59:59.000Z","output":"{output}","outputType":"application/json","outputIsError":false}}],"backgroundWorker":{{"id":"cm0worker","friendlyId":"worker_1","version":"{version}","runtime":"node-22"}},"deployment":{{"id":"cm0deployment","friendlyId":"{deployment}","imagePlatform":"linux/amd64"}},"run":{{"id":"cm0run{run}","friendlyId":"run_{run}","isTest":false,"isReplay":false,"machine":{{"name":"small-1x","cpu":{cpu},"memory":{memory},"centsPerMs":0.0000338}},"attemptNumber":1,"masterQueue":"main","traceContext":{{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}},"environment":{{"id":"cm0environment","type":"PRODUCTION"}},"organization":{{"id":"cm0organization"}},"project":{{"id":"cm0project"}}}}"#
        )
    }

    /// A dispatch of a message of the usual size.
    pub fn dispatch(&self) -> Vec<u8> {
        dispatch(&self.message())
    }
}

/// The body of a dispatch.
pub fn body(message: &str) -> String {
    format!(r#"{{"dequeuedMessage":{message}}}"#)
}

/// A supervisor's dispatch of a message.
pub fn dispatch(message: &str) -> Vec<u8> {
    post(body(message))
}

/// A `POST /warm-start` with any body.
pub fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!(
        "POST /warm-start HTTP/1.1\r\nhost: broker\r\nconnection: keep-alive\r\n\
         content-type: application/json\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}
