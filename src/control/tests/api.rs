//! The page, its API, and the records.

use super::*;
use crate::broker::event::{ColdReason, DispatchEvent, DispatchId, Event, Origin, Outcome};
use crate::broker::io::{ConnId, Ticket};
use crate::broker::settings::TokenMode;
use crate::broker::time::Time;
use crate::control::observer;
use crate::workers::Observed;

fn cold(worker: usize) -> Observed {
    let ticket = Ticket { conn: ConnId { slot: 0, generation: 0 }, request: 0 };
    let event = DispatchEvent {
        id: DispatchId { home: worker, ticket },
        key: None,
        outcome: Outcome::Cold(ColdReason::Parked),
        took_us: 3,
        attempts: 0,
        origin: Origin {
            run: Some("run_1".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            traced: false,
        },
    };
    Observed { worker, at: Time(0), event: Event::Dispatch(Box::new(event)) }
}

#[tokio::test]
async fn reported_dispatches_are_recorded_and_queried_by_number() {
    let side = side(TWO, ServerLimits::new(8)).await;
    side.workers.report(cold(1));
    side.workers.report(cold(0));
    tokio::spawn(observer::run(side.state.clone(), TokenMode::Off, None, std::future::pending()));
    let mut dispatches = Value::Null;
    for _ in 0..100 {
        dispatches = serde_json::from_str(&side.get("/api/dispatches").await.1).expect("JSON");
        if dispatches["last"] == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = &dispatches["dispatches"][0];
    assert_eq!((&first["seq"], &first["worker"], &first["reason"]), (&json!(1), &json!(1), &json!("parked")));
    assert_eq!(first["run"], "run_1");
    assert!(first["traceparent"].as_str().is_some_and(|trace| trace.starts_with("00-0af7")), "{first}");
    let (status, later) = side.get("/api/dispatches?after=1").await;
    assert_eq!(status, 200);
    let later: Value = serde_json::from_str(&later).expect("JSON");
    assert_eq!(later["dispatches"].as_array().map(Vec::len), Some(1));
    let (_, hour) = side.get("/api/history").await;
    let hour: Value = serde_json::from_str(&hour).expect("JSON");
    assert_eq!((&hour["interval_seconds"], &hour["samples"][0]["warm"]), (&json!(10), &json!(201)));
}

#[tokio::test]
async fn live_merges_all_workers() {
    let side = side(&[Behaviour::Answers, Behaviour::Silent], ServerLimits::new(8)).await;
    let (status, live) = side.get("/api/live").await;
    let live: Value = serde_json::from_str(&live).expect("JSON");
    assert_eq!((status, &live["waiting"], &live["warm"]), (200, &json!(10), &json!(100)));
    assert_eq!((&live["cold"], &live["unconfirmed"]), (&json!(45), &json!(5)));
    assert_eq!(live["reasons"]["no_runner"], 40);
    assert_eq!((&live["workers"][1]["stalled"], &live["pools_total"]), (&json!(true), &json!(2)));
    assert_eq!(live["pools"][0]["deployment"], "deployment_a");
    let (_, settings) = side.get("/api/settings").await;
    assert_eq!(settings, r#"{"--confirm":"read"}"#);
}

#[tokio::test]
async fn explain_refuses_a_bad_query_with_the_reason() {
    let side = side(TWO, ServerLimits::new(8)).await;
    let (status, answer) =
        side.get("/api/explain?deployment=deployment_a&version=20260101.9&cpu=0.5&memory=0.25").await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, &answer["outcome"], &answer["ready"]), (200, &json!("cold"), &json!(0)));
    assert_eq!(answer["reason"], "other_version");
    assert_eq!(answer["keys_total"], 2);
    for (query, reason) in
        [("", "deployment"), ("?deployment=a&cpu=x", "float"), ("?deployment=a&b=c", "`b`")]
    {
        let (status, body) = side.get(&format!("/api/explain{query}")).await;
        assert_eq!((status, body.contains(reason)), (400, true), "{body}");
    }
}

#[tokio::test]
async fn page_loads_nothing_from_other_sites() {
    let side = side(TWO, ServerLimits::new(8)).await;
    for (path, content_type) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")]
    {
        let mut stream = TcpStream::connect(side.addr).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-type: {content_type}")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
        assert!(!head.contains("unsafe"), "{head}");
        let outside = body.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "//cdn", "innerHTML", "eval(", "@import", "url("] {
            assert!(!outside.contains(foreign), "{path} has {foreign}");
        }
        assert!(body.len() > 1_000, "{path} is empty");
    }
}

#[tokio::test]
async fn a_stream_starts_with_the_history_and_makes_workers_report_more() {
    let side = side(TWO, ServerLimits::new(8)).await;
    tokio::spawn(observer::run(side.state.clone(), TokenMode::Off, None, std::future::pending()));
    let mut stream = TcpStream::connect(side.addr).await.expect("connected");
    stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut received = String::new();
    let mut bytes = [0; 4_096];
    let mut reported = false;
    while received.matches("event: live").count() < 3 || !received.contains("event: dispatches") {
        let read = timeout(Duration::from_secs(5), stream.read(&mut bytes)).await.expect("in time");
        let read = read.expect("read");
        assert!(read > 0, "{received}");
        received.push_str(std::str::from_utf8(&bytes[..read]).expect("UTF-8"));
        if !std::mem::replace(&mut reported, true) {
            side.workers.report(cold(0));
        }
    }
    assert!(received.contains("content-type: text/event-stream"), "{received}");
    let order = ["event: history", "event: live", "event: dispatches"].map(|event| received.find(event));
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
}
