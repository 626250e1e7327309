//! A small collector: OTLP over HTTP, protobuf, one request per connection.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How the collector treats spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Accepts,
    /// 503.
    Refuses,
    /// Accepts the request but rejects this number of its spans.
    Rejects(i64),
    /// Does not answer.
    Hangs,
}

/// A span as received, with ids in hex.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub kind: SpanKind,
    /// Nanoseconds since 1970.
    pub begun: u64,
    pub ended: u64,
    pub status: StatusCode,
    pub message: String,
    attributes: BTreeMap<String, String>,
}

impl Span {
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    #[track_caller]
    pub fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name}: {self:?}"))
    }
}

pub struct Collector {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    behaviour: Behaviour,
    requests: usize,
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Collector {
    pub fn start(behaviour: Behaviour) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("an address");
        let (spans, resource, paths) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let state = Arc::new(Mutex::new(State { behaviour, requests: 0, spans, resource, paths }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Collector { addr, state }
    }

    /// An address without a listener.
    pub fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address")
    }

    pub fn set(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// Waits for this number of spans and returns all.
    #[track_caller]
    pub fn spans(&self, at_least: usize) -> Vec<Span> {
        self.wait_until(|state| state.spans.len() >= at_least);
        self.state.lock().unwrap().spans.clone()
    }

    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) {
        self.wait_until(|state| state.requests >= count);
    }

    pub fn resource(&self) -> BTreeMap<String, String> {
        self.state.lock().unwrap().resource.clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().paths.iter().cloned().collect()
    }

    #[track_caller]
    fn wait_until(&self, done: impl Fn(&State) -> bool) {
        let begun = Instant::now();
        while !done(&self.state.lock().unwrap()) {
            let spans = &self.state.lock().unwrap().spans;
            assert!(begun.elapsed() < Duration::from_secs(30), "{} spans: {spans:?}", spans.len());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    assert_eq!(field("content-type"), Some("application/x-protobuf"), "{head:?}");
    assert!(field("host").is_some_and(|host| host.starts_with("127.0.0.1:")), "{head:?}");
    let length = field("content-length").expect("a length").parse().expect("a number");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    state.lock().unwrap().requests += 1;
    while state.lock().unwrap().behaviour == Behaviour::Hangs {
        thread::sleep(Duration::from_millis(10));
    }
    let request = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
    let mut state = state.lock().unwrap();
    let path = head[0].split(' ').nth(1).expect("a path").to_owned();
    state.paths.insert(path);
    let (status, answer) = match state.behaviour {
        Behaviour::Refuses => ("503 Service Unavailable", Vec::new()),
        behaviour => {
            state.take(request);
            let rejected_spans = if let Behaviour::Rejects(count) = behaviour { count } else { 0 };
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: String::new() };
            let partial_success = (rejected_spans > 0).then_some(partial);
            ("200 OK", ExportTraceServiceResponse { partial_success }.encode_to_vec())
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
    let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
}

impl State {
    fn take(&mut self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            self.resource = texts(resource.resource.expect("a resource").attributes);
            for scope in resource.scope_spans {
                assert_eq!(scope.scope.expect("a scope").name, "pilotlight");
                self.spans.extend(scope.spans.into_iter().map(read));
            }
        }
    }
}

fn read(span: v1::Span) -> Span {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let status = span.status.clone().unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind(),
        begun: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        status: status.code(),
        message: status.message,
        attributes: texts(span.attributes),
        name: span.name,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: AnyValue| match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = attributes.into_iter().map(|pair| (pair.key, text(pair.value.expect("a value"))));
    pairs.collect()
}
