//! Builds the spans of one dispatch.

use super::{Answered, Attempt};
use crate::broker::event::{AttemptEnd, Outcome};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::time::{Duration, SystemTime};

/// Converts the workers' time to the time of day.
pub struct Clock {
    /// A moment of the workers' time, in microseconds.
    pub now_us: u64,
    /// The time of day at that moment.
    wall: SystemTime,
}

impl Clock {
    /// A clock whose current time is `now_us`.
    pub fn at(now_us: u64) -> Clock {
        Clock { now_us, wall: SystemTime::now() }
    }

    fn wall(&self, at_us: u64) -> SystemTime {
        self.wall - Duration::from_micros(self.now_us.saturating_sub(at_us))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::at(0)
    }
}

pub struct SpanBuilder {
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
}

/// The parent of a span.
struct Parent {
    trace: TraceId,
    flags: TraceFlags,
    span: SpanId,
    is_remote: bool,
}

impl SpanBuilder {
    pub fn new() -> SpanBuilder {
        let scope = InstrumentationScope::builder("pilotlight").with_version(env!("CARGO_PKG_VERSION"));
        SpanBuilder { ids: RandomIdGenerator::default(), scope: scope.build() }
    }

    /// The spans of `answered`. Empty if it has no trace.
    pub fn spans(&self, answered: &Answered, attempts: &[Attempt], clock: &Clock) -> Vec<SpanData> {
        let event = &answered.event;
        let Some(parent) = event.origin.traceparent.as_deref().and_then(parent) else { return Vec::new() };
        // A worker reads its clock once per turn, so an effect may seem to come before its cause.
        let begun = answered.ended.saturating_sub(event.took_us);
        let claim = |attempt: &Attempt| attempt.ended.saturating_sub(attempt.event.took_us).max(begun);
        let confirmed = attempts.iter().filter(|attempt| attempt.event.end == AttemptEnd::Confirmed);
        let ended = confirmed.map(|attempt| attempt.ended).fold(answered.ended, u64::max);
        let matched = attempts.iter().map(claim).min();

        let mut dispatch = self.span("dispatch", &parent, clock, begun, ended);
        dispatch.span_kind = SpanKind::Server;
        dispatch.attributes = attributes(answered);
        if event.outcome == Outcome::Unconfirmed {
            dispatch.status = Status::error("no runner confirmed that it has the run");
        }
        let inside = Parent { span: dispatch.span_context.span_id(), is_remote: false, ..parent };
        let mut spans = vec![dispatch];

        let until = matched.unwrap_or(ended);
        let mut search = self.span("match", &inside, clock, begun, until);
        search.attributes.push(KeyValue::new("pilotlight.matched", matched.is_some()));
        search
            .attributes
            .extend(event.outcome.reason().map(|reason| KeyValue::new("pilotlight.cold_reason", reason)));
        spans.push(search);

        for (number, attempt) in (1_i64..).zip(attempts) {
            let from = claim(attempt);
            let mut delivery = self.span("delivery", &inside, clock, from, attempt.ended.max(from));
            let event = &attempt.event;
            delivery.attributes = vec![
                KeyValue::new("pilotlight.attempt", number),
                KeyValue::new("pilotlight.end", event.end.name()),
                KeyValue::new("pilotlight.node", event.node.to_string()),
                KeyValue::new("pilotlight.worker", attempt.worker as i64),
                KeyValue::new(
                    "pilotlight.poll_wait_seconds",
                    Duration::from_micros(event.waited_us).as_secs_f64(),
                ),
            ];
            if let Some(error) = error(event.end) {
                delivery.status = Status::error(error);
            }
            spans.push(delivery);
        }
        spans
    }

    fn span(
        &self,
        name: &'static str,
        parent: &Parent,
        clock: &Clock,
        from_us: u64,
        until_us: u64,
    ) -> SpanData {
        let id = self.ids.new_span_id();
        SpanData {
            span_context: SpanContext::new(parent.trace, id, parent.flags, false, TraceState::NONE),
            parent_span_id: parent.span,
            parent_span_is_remote: parent.is_remote,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: clock.wall(from_us),
            end_time: clock.wall(until_us),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// The supervisor's span. The broker core has checked the form of `traceparent`.
fn parent(traceparent: &str) -> Option<Parent> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    Some(Parent { trace, flags: TraceFlags::new(flags), span, is_remote: true })
}

fn attributes(answered: &Answered) -> Vec<KeyValue> {
    let event = &answered.event;
    let mut attributes = vec![
        KeyValue::new("pilotlight.outcome", event.outcome.name()),
        KeyValue::new("pilotlight.attempts", i64::from(event.attempts)),
        KeyValue::new("pilotlight.worker", event.id.home as i64),
    ];
    attributes.extend(event.outcome.reason().map(|reason| KeyValue::new("pilotlight.cold_reason", reason)));
    attributes.extend(event.origin.run.as_deref().map(|run| KeyValue::new("trigger.run.id", run.to_owned())));
    if let Some(key) = event.key.as_ref().map(|key| key.as_ref()) {
        attributes.extend([
            KeyValue::new("trigger.deployment.id", key.redacted_deployment().to_owned()),
            KeyValue::new("trigger.deployment.version", key.version.to_owned()),
            KeyValue::new("trigger.machine.cpu", key.cpu.get()),
            KeyValue::new("trigger.machine.memory", key.memory.get()),
        ]);
    }
    attributes
}

/// Why an attempt failed.
fn error(end: AttemptEnd) -> Option<&'static str> {
    match end {
        AttemptEnd::Confirmed => None,
        AttemptEnd::Reset => Some("the runner closed its connection before it had the run"),
        AttemptEnd::AckTimeout => Some("the runner's host did not acknowledge the run (--ack-timeout)"),
        AttemptEnd::ReadTimeout => Some("the runner did not read the run (--read-timeout)"),
    }
}
