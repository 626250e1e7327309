//! From the workers' events to spans.

use super::*;
use crate::broker::event::{AttemptEnd, ColdReason, Origin, Outcome};
use crate::broker::io::{ConnId, Ticket};
use crate::broker::json::Number;
use crate::broker::pools::KeyRef;
use crate::broker::time::Time;
use opentelemetry::trace::{SpanId, Status};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The time of the last turn.
const NOW: Time = Time(60_000_000);
const MS: Duration = Duration::from_millis(1);

fn id(request: u32) -> DispatchId {
    DispatchId { home: 0, ticket: Ticket { conn: ConnId { slot: 7, generation: 1 }, request } }
}

fn dispatch(request: u32, outcome: Outcome, took: Duration) -> Observed {
    let origin = Origin { run: Some("run_1".into()), traceparent: Some(TRACEPARENT.into()), traced: true };
    let took_us = took.as_micros() as u64;
    let event = DispatchEvent { id: id(request), key: None, outcome, took_us, attempts: 1, origin };
    Observed { worker: 0, at: NOW, event: Event::Dispatch(Box::new(event)) }
}

fn attempt(request: u32, end: AttemptEnd, took: Duration) -> Observed {
    let number = Number::parse("0.5").expect("a number");
    let key = KeyRef { deployment: "d", version: "1", cpu: number, memory: number };
    let event = AttemptEvent {
        dispatch: id(request),
        traced: true,
        key: key.to_key(),
        node: "node-1".into(),
        end,
        waited_us: 5,
        took_us: took.as_micros() as u64,
    };
    Observed { worker: 1, at: NOW, event: Event::Attempt(Box::new(event)) }
}

fn traces(queued_max: usize) -> (Traces, mpsc::Receiver<SpanData>) {
    let (queue, spans) = mpsc::channel(queued_max);
    let traces = Traces {
        attempts: HashMap::new(),
        answered: Vec::new(),
        due: Vec::new(),
        attempt_age_max_us: LATE_EVENTS.as_micros() as u64,
        attempts_max: queued_max,
        builder: SpanBuilder::new(),
        clock: Clock::default(),
        queue,
        counters: Arc::default(),
    };
    (traces, spans)
}

fn queued(spans: &mut mpsc::Receiver<SpanData>) -> Vec<SpanData> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

fn names(spans: &[SpanData]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

#[test]
fn an_attempt_that_is_reported_after_its_dispatch_is_in_the_trace() {
    let (mut traces, mut spans) = traces(100);
    traces.take(dispatch(1, Outcome::Unconfirmed, 600 * MS), MS);
    traces.queue_due();
    assert_eq!(queued(&mut spans).len(), 0);
    traces.take(attempt(1, AttemptEnd::ReadTimeout, 300 * MS), Duration::ZERO);
    traces.queue_due();
    let spans = queued(&mut spans);
    assert_eq!(names(&spans), ["dispatch", "match", "delivery"]);
    assert_eq!(spans[0].parent_span_id, SpanId::from_hex("b7ad6b7169203331").unwrap());
    assert!(spans[0].parent_span_is_remote && !spans[2].parent_span_is_remote);
    assert!(matches!(spans[2].status, Status::Error { .. }), "{:?}", spans[2].status);
    assert!(traces.attempts.is_empty());
}

/// A worker reads its clock once per turn. So another worker's attempt may seem to begin before the dispatch arrived,
/// and to end after its answer.
#[test]
fn causes_come_before_their_effects() {
    let (mut traces, mut spans) = traces(100);
    traces.take(attempt(1, AttemptEnd::Confirmed, 10 * MS), MS);
    let mut answered = dispatch(1, Outcome::Warm, 2 * MS);
    answered.at = Time(NOW.0 - 7);
    traces.take(answered, MS);
    traces.finish();
    let spans = queued(&mut spans);
    let [dispatch, search, delivery] = &spans[..] else { panic!("{:?}", names(&spans)) };
    assert_eq!(search.start_time, dispatch.start_time);
    assert_eq!(search.end_time, delivery.start_time);
    assert!(dispatch.start_time <= delivery.start_time && delivery.end_time <= dispatch.end_time);
}

#[test]
fn all_spans_of_a_trace_are_queued_or_counted_as_dropped() {
    let (mut traces, mut spans) = traces(3);
    let cold = |request| dispatch(request, Outcome::Cold(ColdReason::NoRunner), MS);
    traces.take(cold(1), MS);
    traces.take(cold(2), MS);
    let counters = traces.counters.clone();
    traces.finish();
    assert_eq!(queued(&mut spans).len(), 2);
    assert_eq!(counters.dropped_totals()[0], ("queue_full", 2));
}

#[test]
fn attempts_without_a_dispatch_are_bounded_and_dropped_after_a_while() {
    let (mut traces, _spans) = traces(2);
    for request in 0..5 {
        traces.take(attempt(request, AttemptEnd::Reset, MS), MS);
    }
    assert_eq!((traces.attempts.len(), traces.counters.dropped_totals()[0].1), (2, 3));
    traces.queue_due();
    assert_eq!(traces.attempts.len(), 2);
    traces.attempts.clear();
    traces.take(attempt(9, AttemptEnd::Reset, MS), 2 * LATE_EVENTS);
    traces.queue_due();
    assert_eq!(traces.attempts.len(), 0);
}

#[test]
fn an_untraced_dispatch_has_no_spans() {
    let (mut traces, mut spans) = traces(100);
    let mut plain = dispatch(1, Outcome::Warm, MS);
    let Event::Dispatch(event) = &mut plain.event else { unreachable!() };
    event.origin.traced = false;
    traces.take(plain, MS);
    traces.finish();
    assert_eq!(queued(&mut spans).len(), 0);
}
