//! The admin side over real sockets, with fake workers.

mod api;
pub mod fake_workers;

use super::admin::router;
use super::admin::server::{AdminListener, ServerLimits, serve};
use super::state::{ControlState, Reporter};
use crate::config::AdminChanges;
use fake_workers::{Behaviour, FakeWorkers, starting_state};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

struct Side {
    addr: SocketAddr,
    state: Arc<ControlState>,
    workers: Arc<FakeWorkers>,
}

async fn side(behaviours: &[Behaviour], limits: ServerLimits) -> Side {
    let side = starting(behaviours, limits).await;
    side.state.set_serving(Reporter::new(side.workers.clone()));
    side
}

async fn starting(behaviours: &[Behaviour], limits: ServerLimits) -> Side {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let state = Arc::new(starting_state());
    let routes = router(state.clone(), AdminChanges::Allowed);
    tokio::spawn(serve(AdminListener::Tcp(listener), routes, limits));
    let workers = Arc::new(FakeWorkers::new(behaviours));
    Side { addr, state, workers }
}

const TWO: &[Behaviour] = &[Behaviour::Answers, Behaviour::Answers];

impl Side {
    async fn exchange(&self, request: String) -> (u16, String) {
        let mut stream = TcpStream::connect(self.addr).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await
    }

    async fn cordon(&self, method: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let (status, body) = self.exchange(format!(
            "{method} /cordon HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }
}

#[tokio::test]
async fn the_broker_is_ready_only_while_the_workers_serve() {
    let side = starting(TWO, ServerLimits::new(8)).await;
    assert_eq!(side.get("/healthz").await.0, 200);
    for path in ["/readyz", "/status", "/metrics", "/cordon"] {
        let (status, body) = side.get(path).await;
        assert_eq!((status, body.contains("starting")), (503, true), "{path}");
    }
    side.state.set_serving(Reporter::new(side.workers.clone()));
    for path in ["/readyz", "/healthz", "/status", "/metrics", "/cordon"] {
        assert_eq!(side.get(path).await.0, 200, "{path}");
    }
    side.state.set_shutting_down();
    let (status, body) = side.get("/readyz").await;
    assert_eq!((status, body.contains("shutting_down")), (503, true));
    let (_, body) = side.get("/status").await;
    assert!(body.contains(r#""shutting_down":true"#), "{body}");
    assert_eq!(side.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_stalled_worker_is_marked_and_delays_no_answer() {
    let side = side(&[Behaviour::Answers, Behaviour::Silent], ServerLimits::new(8)).await;
    let asked_at = Instant::now();
    let (status, body) = side.get("/status").await;
    let took = asked_at.elapsed();
    assert_eq!(status, 200);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["waiting"], json!(10));
    assert_eq!(body["workers"][0]["stalled"], json!(false));
    assert_eq!(body["workers"][1]["stalled"], json!(true));
    let (status, body) = side.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains(r#"pilotlight_worker_stalled{worker="1"} 1"#), "{body}");
}

#[tokio::test]
async fn a_cordon_is_added_listed_and_ended() {
    let side = side(TWO, ServerLimits::new(8)).await;
    let node = r#"{"node":"worker-3"}"#;
    let none = json!({"cordons": [], "stalled_workers": []});
    let one = json!({"cordons": [{"node": "worker-3"}], "stalled_workers": []});
    assert_eq!(side.cordon("GET", "").await, (200, none.clone()));
    assert_eq!(side.cordon("POST", node).await, (200, one.clone()));
    assert_eq!(side.cordon("GET", "").await, (200, one.clone()));
    let (status, body) = side.cordon("DELETE", r#"{"deployment":"worker-3"}"#).await;
    assert_eq!(status, 404);
    assert_eq!(body, json!({"error": "deployment \"worker-3\" is not cordoned"}));
    assert_eq!(side.cordon("DELETE", node).await, (200, none));
}

#[tokio::test]
async fn cordon_with_a_stalled_worker_answers_202() {
    let side = side(&[Behaviour::Answers, Behaviour::Silent], ServerLimits::new(8)).await;
    let (status, body) = side.cordon("POST", r#"{"deployment":"deployment_a"}"#).await;
    assert_eq!(status, 202);
    assert_eq!(body, json!({"cordons": [{"deployment": "deployment_a"}], "stalled_workers": [1]}));
}

#[tokio::test]
async fn a_bad_cordon_is_refused_with_the_reason() {
    let side = side(TWO, ServerLimits::new(8)).await;
    let long = format!(r#"{{"node":"{}"}}"#, "x".repeat(513));
    let huge = format!(r#"{{"node":"{}"}}"#, "x".repeat(20_000));
    for (body, status, reason) in [
        ("", 400, "EOF"),
        ("{", 400, "EOF"),
        ("[]", 400, r#"Send {"node": "…"}"#),
        ("{}", 400, r#"Send {"node": "…"}"#),
        (r#"{"node":"a","deployment":"b"}"#, 400, r#"Send {"node": "…"}"#),
        (r#"{"instance":"a"}"#, 400, "unknown variant `instance`, expected `node` or `deployment`"),
        (r#"{"node":3}"#, 400, "expected a string"),
        (r#"{"node":""}"#, 400, "node: \"\" is empty"),
        (r#"{"deployment":" a"}"#, 400, "deployment: \" a\" is empty, or has blanks"),
        (r#"{"node":"a\n"}"#, 400, "node:"),
        (&long, 400, "longer than 512 bytes"),
        (&huge, 413, "limit"),
    ] {
        let (got, answer) = side.cordon("POST", body).await;
        let error = answer["error"].as_str().expect("an error");
        assert_eq!(got, status, "{body}: {error}");
        assert!(error.contains(reason), "{body}: {error}");
    }
    assert_eq!(side.cordon("GET", "").await.1["cordons"], json!([]));
}

#[tokio::test]
async fn changes_need_a_json_content_type() {
    let side = side(TWO, ServerLimits::new(8)).await;
    // The content types that another site's form can send without a CORS preflight.
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let body = r#"{"node":"a"}"#;
        let (status, _) = side
            .exchange(format!(
                "POST /cordon HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        assert_eq!(status, 415, "{content_type}");
    }
    assert_eq!(side.cordon("GET", "").await.1["cordons"], json!([]));
}

#[tokio::test]
async fn cordons_are_bounded() {
    let side = side(TWO, ServerLimits::new(8)).await;
    for index in 0..1_024 {
        use crate::broker::report::{Command, Selector};
        use crate::control::state::Workers;
        let selector = Selector::Node(format!("worker-{index}"));
        side.workers.request(Command::Cordon(selector), Arc::new(|_| ()));
    }
    let (status, body) = side.cordon("POST", r#"{"node":"one-more"}"#).await;
    assert_eq!(status, 409, "{body}");
    // A cordon that is in force may be added again.
    let (status, _) = side.cordon("POST", r#"{"node":"worker-7"}"#).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_with_alternatives() {
    let side = side(TWO, ServerLimits::new(8)).await;
    let (status, body) = side.get("/nothing").await;
    assert_eq!((status, body.contains("/status")), (404, true), "{body}");
    let (status, body) =
        side.exchange("POST /status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned()).await;
    assert_eq!((status, body.contains("Allow")), (405, true), "{body}");
}

fn tight() -> ServerLimits {
    ServerLimits {
        connections_max: 4,
        head_timeout: Duration::from_millis(200),
        life_max: Duration::from_millis(600),
        grace: Duration::from_millis(100),
    }
}

/// How long the server kept the connection open.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    began.elapsed()
}

#[tokio::test]
async fn greedy_clients_cannot_block_a_health_check() {
    let mut limits = ServerLimits::new(4);
    limits.head_timeout = Duration::from_secs(60);
    let side = side(TWO, limits).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        greedy.push(TcpStream::connect(side.addr).await.expect("connected"));
    }
    assert_eq!(side.get("/healthz").await.0, 200);
    // The server closed the oldest.
    let took = closed_after(&mut greedy[0]).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn incomplete_head_times_out() {
    let side = side(TWO, tight()).await;
    let mut slow = TcpStream::connect(side.addr).await.expect("connected");
    slow.write_all(b"GET /healthz HTT").await.expect("sent");
    let took = closed_after(&mut slow).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn client_that_does_not_read_is_closed_after_life_max() {
    let side = side(TWO, tight()).await;
    let mut greedy = TcpStream::connect(side.addr).await.expect("connected");
    let request = b"GET /status HTTP/1.1\r\nhost: a\r\n\r\n".repeat(64);
    let mut sent = 0;
    let began = Instant::now();
    // The client sends until the server stops reading, then retries until the server closes the connection.
    while began.elapsed() < Duration::from_secs(5) {
        match timeout(Duration::from_secs(3), greedy.write_all(&request)).await {
            Ok(Ok(())) => sent += request.len(),
            Ok(Err(_)) => break,
            Err(_) => panic!("still held after {sent} bytes"),
        }
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(side.get("/healthz").await.0, 200);
}
