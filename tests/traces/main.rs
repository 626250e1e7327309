//! Spans as a collector receives them: a real broker, real dispatches, OTLP over HTTP.

#[path = "../support/mod.rs"]
mod support;

mod collector;

use collector::{Behaviour, Collector, Span};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use std::time::{Duration, Instant};
use support::broker::Broker;
use support::client::Client;
use support::trigger::{Key, body};

/// A supervisor's trace id, and the id of its span that waits for the answer.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// A dispatch with these header fields.
fn dispatch(message: &str, fields: &str) -> String {
    let body = body(message);
    format!("POST /warm-start HTTP/1.1\r\nhost: b\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

fn broker(collector: &Collector, flags: &str) -> Broker {
    Broker::start(&format!("--otlp-endpoint http://{} {flags}", collector.addr))
}

fn metric(broker: &Broker, sample: &str) -> u64 {
    let page = broker.admin("/metrics").text().to_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{sample} is not on the page")).parse().expect("a number")
}

fn dropped(broker: &Broker, reason: &str) -> u64 {
    metric(broker, &format!("pilotlight_spans_dropped_total{{reason=\"{reason}\"}}"))
}

/// Dispatches a run that `poll` receives, with a trace that the supervisor records.
fn deliver(broker: &Broker, key: &Key, poll: &mut Client) {
    let message = key.message();
    let mut supervisor = broker.supervisor();
    supervisor.send(dispatch(&message, &traceparent("01")));
    assert_eq!(poll.response().text(), message);
    poll.finish();
    assert!(supervisor.response().did_warm_start());
}

fn cold_dispatch(broker: &Broker, fields: &str) {
    assert!(!broker.supervisor().ask(dispatch(&Key::fresh().message(), fields)).did_warm_start());
}

/// Asserts that the times are in order and within the last minute.
fn assert_in_order(times: &[u64]) {
    assert!(times.is_sorted(), "{times:?}");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
    assert!(times.iter().all(|time| *time <= now && now - time < 60_000_000_000), "{times:?} at {now}");
}

#[test]
fn a_warm_start_is_three_spans_of_the_supervisors_trace() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 2");
    let key = Key::fresh();
    let mut poll = broker.poll(&key);
    std::thread::sleep(Duration::from_millis(100));
    deliver(&broker, &key, &mut poll);
    let spans = collector.spans(3);
    let one = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{spans:?}"));
    let (dispatch, search, delivery) = (one("dispatch"), one("match"), one("delivery"));
    for span in &spans {
        assert_eq!((&*span.trace, span.status), (TRACE, StatusCode::Unset), "{span:?}");
    }
    assert_eq!((&*dispatch.parent, dispatch.kind), (PARENT, SpanKind::Server));
    for child in [search, delivery] {
        assert_eq!((&child.parent, child.kind), (&dispatch.id, SpanKind::Internal));
    }
    assert!(dispatch.id != search.id && search.id != delivery.id && dispatch.id != PARENT);
    assert_in_order(&[
        dispatch.begun,
        search.begun,
        search.ended,
        delivery.begun,
        delivery.ended,
        dispatch.ended,
    ]);
    assert!(delivery.begun < delivery.ended, "{delivery:?}");

    assert_eq!(dispatch.text("pilotlight.outcome"), "warm");
    assert_eq!(dispatch.text("trigger.deployment.id"), key.deployment);
    assert_eq!(dispatch.text("trigger.deployment.version"), key.version);
    assert!(dispatch.text("trigger.run.id").starts_with("run_"));
    assert_eq!(
        (dispatch.number("trigger.machine.cpu"), dispatch.number("trigger.machine.memory")),
        (0.5, 0.25)
    );
    assert_eq!(dispatch.number("pilotlight.attempts"), 1.0);
    assert_eq!(search.text("pilotlight.matched"), "true");
    assert_eq!((delivery.text("pilotlight.end"), delivery.text("pilotlight.node")), ("confirmed", "node-1"));
    let waited = delivery.number("pilotlight.poll_wait_seconds");
    assert!((0.1..60.0).contains(&waited), "{waited}");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "pilotlight");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 36, "{resource:?}");
    broker.wait_until("counted", || metric(&broker, "pilotlight_spans_exported_total") == 3);
    assert_eq!(collector.paths(), ["/v1/traces"]);
}

#[test]
fn a_cold_dispatch_has_its_reason_and_no_delivery() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 1");
    cold_dispatch(&broker, &traceparent("01"));
    let spans = collector.spans(2);
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["dispatch", "match"]);
    for span in &spans {
        assert_eq!((span.text("pilotlight.cold_reason"), span.status), ("no_runner", StatusCode::Unset));
    }
    assert_eq!((spans[0].text("pilotlight.outcome"), spans[1].text("pilotlight.matched")), ("cold", "false"));
}

/// Two frozen runners: the trace shows the time of each attempt. The dispatch's deadline ends the last one.
#[test]
fn an_unread_run_is_an_error_with_every_attempt() {
    let collector = Collector::start(Behaviour::Accepts);
    let timeouts = "--read-timeout 300ms --ack-timeout 200ms --dispatch-timeout 600ms --workers 1";
    let broker = broker(&collector, timeouts);
    let key = Key::fresh();
    let _frozen = broker.polls(&key, 3);
    let mut supervisor = broker.supervisor();
    assert!(!supervisor.ask(dispatch(&key.message(), &traceparent("01"))).did_warm_start());
    let spans = collector.spans(4);
    let dispatch = &spans[0];
    assert_eq!((dispatch.text("pilotlight.outcome"), dispatch.status), ("unconfirmed", StatusCode::Error));
    let deliveries: Vec<&Span> = spans.iter().filter(|span| span.name == "delivery").collect();
    assert_eq!(deliveries.len(), 2, "{spans:?}");
    for (number, delivery) in (1..).zip(&deliveries) {
        assert_eq!(delivery.status, StatusCode::Error);
        assert_eq!(delivery.number("pilotlight.attempt"), f64::from(number));
        assert!(delivery.message.contains("timeout"), "{delivery:?}");
        assert!(delivery.ended - delivery.begun >= 200_000_000, "{delivery:?}");
    }
    assert!(deliveries[0].ended <= deliveries[1].begun, "{deliveries:?}");
}

/// Polls of some runs are on another worker, which reports the attempt.
#[test]
fn a_delivery_by_another_worker_is_in_the_trace() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 4");
    let mut crossed = 0;
    for round in 1..=16 {
        let key = Key::fresh();
        let mut poll = broker.poll(&key);
        deliver(&broker, &key, &mut poll);
        let spans = collector.spans(3 * round);
        let last: Vec<&Span> = spans.iter().filter(|span| span.parent == PARENT).collect();
        let last = last.last().expect("a dispatch");
        let children: Vec<&Span> = spans.iter().filter(|span| span.parent == last.id).collect();
        let [search, delivery] = children[..] else { panic!("{spans:?}") };
        assert_in_order(&[
            last.begun,
            search.begun,
            search.ended,
            delivery.begun,
            delivery.ended,
            last.ended,
        ]);
        crossed += usize::from(delivery.number("pilotlight.worker") != last.number("pilotlight.worker"));
    }
    assert!(crossed > 0, "no run was delivered by another worker");
}

#[test]
fn only_recorded_traces_are_exported() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 1 --log-level info,pilotlight::events=debug");
    for fields in [
        "",
        &traceparent("00"),
        &traceparent("fe"),
        "traceparent: 00-0-0-01\r\n",
        "traceparent: \r\n",
        &traceparent("01").replace(TRACE, &"0".repeat(32)),
        &traceparent("01").to_uppercase(),
    ] {
        cold_dispatch(&broker, fields);
    }
    // Then a recorded one. The spans of the others must not arrive later either.
    cold_dispatch(&broker, &traceparent("03"));
    assert_eq!(collector.spans(2).len(), 2);
    broker.wait_until("all logged", || broker.log().matches("dispatch answered").count() == 8);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(collector.spans(2).len(), 2);
    assert_eq!(broker.counter("dispatches_untraced"), 0);
}

#[test]
fn without_an_endpoint_traces_are_ignored() {
    let broker = Broker::start("--workers 1");
    cold_dispatch(&broker, &traceparent("01"));
    assert_eq!(broker.counter("dispatches_untraced"), 0);
    assert_eq!(metric(&broker, "pilotlight_spans_exported_total"), 0);
}

/// Traced dispatches have their own allowance. The broker counts dispatches beyond it.
#[test]
fn dispatches_over_the_allowance_are_counted() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 1 --traced-dispatches 3 --sampled-dispatches 1");
    let count = 400;
    let mut supervisor = broker.supervisor();
    for _ in 0..count {
        let message = Key::new("deployment_many").message();
        assert!(!supervisor.ask(dispatch(&message, &traceparent("01"))).did_warm_start());
    }
    broker.wait_for("cold", count);
    let untraced = broker.counter("dispatches_untraced");
    assert!((1..count).contains(&untraced), "{untraced}");
    let traced = (count - untraced) as usize;
    assert_eq!(collector.spans(2 * traced).len(), 2 * traced);
}

#[test]
fn a_down_collector_costs_the_spans_and_one_log_line() {
    let down = Collector::closed_port();
    let broker = Broker::start(&format!("--otlp-endpoint http://{down} --workers 1"));
    for _ in 0..3 {
        cold_dispatch(&broker, &traceparent("01"));
        std::thread::sleep(Duration::from_millis(300));
    }
    broker.wait_until("all dropped", || dropped(&broker, "export_failed") == 6);
    broker.wait_until("a line in the log", || broker.log().contains("refused"));
    assert_eq!(broker.log().matches("spans were dropped").count(), 1, "{}", broker.log());
    // The collector does not delay the end.
    ends_within(broker, Duration::from_secs(4));
}

#[test]
fn a_collector_that_recovers_is_used_again() {
    let collector = Collector::start(Behaviour::Refuses);
    let broker = broker(&collector, "--workers 1");
    cold_dispatch(&broker, &traceparent("01"));
    broker.wait_until("dropped", || dropped(&broker, "export_failed") == 2);
    broker.wait_until("a line in the log", || broker.log().contains("503"));
    collector.set(Behaviour::Accepts);
    cold_dispatch(&broker, &traceparent("01"));
    assert_eq!(collector.spans(2).len(), 2);
    broker.wait_until("a line in the log", || broker.log().contains("the collector takes spans again"));
    collector.set(Behaviour::Rejects(1));
    cold_dispatch(&broker, &traceparent("01"));
    broker.wait_until("counted", || dropped(&broker, "rejected") == 1);
    assert_eq!(metric(&broker, "pilotlight_spans_exported_total"), 3);
}

/// While the collector hangs, the queue fills up. The broker still answers dispatches, and counts the dropped
/// spans.
#[test]
fn a_slow_collector_delays_no_dispatch() {
    let collector = Collector::start(Behaviour::Hangs);
    let flags = "--workers 1 --max-queued-spans 257 --otlp-timeout 30s --traced-dispatches 10000";
    let mut broker = broker(&collector, flags);
    cold_dispatch(&broker, &traceparent("01"));
    collector.wait_for_requests(1);
    let mut supervisor = broker.supervisor();
    let count = 600;
    let begun = Instant::now();
    for _ in 0..count {
        let message = Key::new("deployment_many").message();
        assert!(!supervisor.ask(dispatch(&message, &traceparent("01"))).did_warm_start());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // 128 dispatches of two spans each fit into the queue.
    broker.wait_until("dropped", || dropped(&broker, "queue_full") == 2 * (count - 128));
    assert_eq!(metric(&broker, "pilotlight_spans_queued"), 256);
    assert_eq!(broker.admin("/readyz").status, 200);
    collector.set(Behaviour::Accepts);
    broker.wait_until("exported", || metric(&broker, "pilotlight_spans_exported_total") >= 256);
    broker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(broker.ended().success());
}

/// The broker exports its last spans before it ends. A collector that hangs delays the end by --otlp-timeout only.
#[test]
fn the_last_spans_are_exported_before_the_end() {
    let collector = Collector::start(Behaviour::Accepts);
    let broker = broker(&collector, "--workers 1");
    cold_dispatch(&broker, &traceparent("01"));
    ends_within(broker, Duration::from_secs(10));
    assert_eq!(collector.spans(2).len(), 2);

    let collector = Collector::start(Behaviour::Hangs);
    let broker =
        Broker::start(&format!("--otlp-endpoint http://{} --otlp-timeout 1s --workers 1", collector.addr));
    for _ in 0..20 {
        cold_dispatch(&broker, &traceparent("01"));
    }
    // The export's timeout and the end's are equal: either may be over first and logs it.
    let ended = ends_within(broker, Duration::from_secs(10));
    ended.wait_until("a line in the log", || ended.log().contains("spans were dropped"));
}

#[track_caller]
fn ends_within(mut broker: Broker, limit: Duration) -> Broker {
    let begun = Instant::now();
    broker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(broker.ended().success());
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    broker
}
