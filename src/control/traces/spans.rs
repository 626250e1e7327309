//! One dispatch as spans.

use super::{Answered, Attempt};
use crate::broker::event::{AttemptEnd, Outcome};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::time::{Duration, SystemTime};

/// What the time of day is at a moment of the workers' time.
pub struct Clock {
    /// That moment, in microseconds.
    pub now_us: u64,
    wall: SystemTime,
}

impl Clock {
    /// In the workers' time it is `now_us`.
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

/// Makes spans.
pub struct Maker {
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
}

/// Where a span stands.
struct Place {
    trace: TraceId,
    flags: TraceFlags,
    parent: SpanId,
    parent_is_remote: bool,
}

impl Maker {
    /// With ids that nobody has had.
    pub fn new() -> Maker {
        let scope = InstrumentationScope::builder("pilotlight").with_version(env!("CARGO_PKG_VERSION"));
        Maker { ids: RandomIdGenerator::default(), scope: scope.build() }
    }

    /// The spans of `answered`; none if it has no trace.
    pub fn spans(&self, answered: &Answered, attempts: &[Attempt], clock: &Clock) -> Vec<SpanData> {
        let event = &answered.event;
        let Some(place) = event.origin.traceparent.as_deref().and_then(place) else { return Vec::new() };
        // Moments of several workers, each of the turn that it was in: an effect may seem to come before its cause.
        let begun = answered.ended.saturating_sub(event.took_us);
        let claim = |attempt: &Attempt| attempt.ended.saturating_sub(attempt.event.took_us).max(begun);
        let confirmed = attempts.iter().filter(|attempt| attempt.event.end == AttemptEnd::Confirmed);
        let ended = confirmed.map(|attempt| attempt.ended).fold(answered.ended, u64::max);
        let matched = attempts.iter().map(claim).min();

        let mut dispatch = self.span("dispatch", &place, clock, begun, ended);
        dispatch.span_kind = SpanKind::Server;
        dispatch.attributes = described(answered);
        if event.outcome == Outcome::Unconfirmed {
            dispatch.status = Status::error("runners were offered the run, and none was proved to have it");
        }
        let inside = Place { parent: dispatch.span_context.span_id(), parent_is_remote: false, ..place };
        let mut spans = vec![dispatch];

        let until = matched.unwrap_or(ended);
        let mut search = self.span("match", &inside, clock, begun, until);
        search.attributes.push(KeyValue::new("pilotlight.matched", matched.is_some()));
        search
            .attributes
            .extend(event.outcome.reason().map(|why| KeyValue::new("pilotlight.cold_reason", why)));
        spans.push(search);

        for (number, attempt) in (1_i64..).zip(attempts) {
            let from = claim(attempt);
            let mut delivery = self.span("delivery", &inside, clock, from, attempt.ended.max(from));
            let told = &attempt.event;
            delivery.attributes = vec![
                KeyValue::new("pilotlight.attempt", number),
                KeyValue::new("pilotlight.end", told.end.name()),
                KeyValue::new("pilotlight.node", told.node.to_string()),
                KeyValue::new("pilotlight.worker", attempt.worker as i64),
                KeyValue::new(
                    "pilotlight.poll_wait_seconds",
                    Duration::from_micros(told.waited_us).as_secs_f64(),
                ),
            ];
            if let Some(fault) = fault(told.end) {
                delivery.status = Status::error(fault);
            }
            spans.push(delivery);
        }
        spans
    }

    fn span(
        &self,
        name: &'static str,
        place: &Place,
        clock: &Clock,
        from_us: u64,
        until_us: u64,
    ) -> SpanData {
        let id = self.ids.new_span_id();
        SpanData {
            span_context: SpanContext::new(place.trace, id, place.flags, false, TraceState::NONE),
            parent_span_id: place.parent,
            parent_span_is_remote: place.parent_is_remote,
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

/// Below the supervisor's span. The core has seen to it that `traceparent` is one.
fn place(traceparent: &str) -> Option<Place> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let parent = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    Some(Place { trace, flags: TraceFlags::new(flags), parent, parent_is_remote: true })
}

fn described(answered: &Answered) -> Vec<KeyValue> {
    let event = &answered.event;
    let mut attributes = vec![
        KeyValue::new("pilotlight.outcome", event.outcome.name()),
        KeyValue::new("pilotlight.attempts", i64::from(event.attempts)),
        KeyValue::new("pilotlight.worker", event.id.home as i64),
    ];
    attributes.extend(event.outcome.reason().map(|why| KeyValue::new("pilotlight.cold_reason", why)));
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

/// What went wrong with an attempt, in words.
fn fault(end: AttemptEnd) -> Option<&'static str> {
    match end {
        AttemptEnd::Confirmed => None,
        AttemptEnd::Reset => Some("the runner closed before it had the run"),
        AttemptEnd::AckTimeout => Some("the runner's machine is silent (--ack-timeout)"),
        AttemptEnd::ReadTimeout => Some("the runner's process did not read the run (--read-timeout)"),
    }
}
