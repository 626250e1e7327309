//! The bugs that the simulation must catch.

use super::planting::Bug;

const fn bug(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Bug {
    Bug { name, file, from, to }
}

const DELIVERY: &str = "src/broker/delivery.rs";
const DISPATCH: &str = "src/broker/dispatch.rs";
const POLLS: &str = "src/broker/polls.rs";
const REQUESTS: &str = "src/broker/requests.rs";
const LIFECYCLE: &str = "src/broker/lifecycle.rs";
const CORE: &str = "src/broker/mod.rs";
const TIMER: &str = "src/broker/timer.rs";
const POOL: &str = "src/broker/pool.rs";
const WHY: &str = "src/broker/why.rs";

pub const MUTATIONS: &[Bug] = &[
    // Proof.
    bug(
        "a FIN is proof enough, bytes unacknowledged or not",
        DELIVERY,
        "let all_acked = claim.sent && facts.unacked_bytes == 0;",
        "let all_acked = claim.sent && (facts.unacked_bytes == 0 || PLANTED);",
    ),
    bug(
        "confirmed before the acknowledgement",
        DELIVERY,
        "claim.sent = true; if self.settings.confirm == Confirm::Write {",
        "claim.sent = true; if self.settings.confirm == Confirm::Write || PLANTED {",
    ),
    bug("a dead connection's word counts", DELIVERY, "if !facts.alive {", "if !facts.alive && !PLANTED {"),
    bug(
        "a FIN that came before the bytes counts",
        DELIVERY,
        "let (true, Some(facts)) = (claim.sent, facts) else",
        "let (true, Some(facts)) = (claim.sent || PLANTED, facts) else",
    ),
    bug(
        "a FIN is ignored while claimed",
        CORE,
        "State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),",
        "State::Claimed(_) if PLANTED => {}
         State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),",
    ),
    bug(
        "what follows a FIN is not asked for",
        DELIVERY,
        "if claim.closing { next = next.min(",
        "if claim.closing && PLANTED { next = Time(u64::MAX); } else if claim.closing { next = next.min(",
    ),
    bug(
        "a FIN is there only once its event is",
        DELIVERY,
        "claim.closing |= claim.sent && facts.fin;",
        "claim.closing |= claim.sent && facts.fin && !PLANTED;",
    ),
    // Release.
    bug(
        "released by a close: what is unsent may still arrive",
        DELIVERY,
        "self.abort(slot); self.attempt_ended(",
        "if PLANTED { self.close(slot) } else { self.abort(slot) }; self.attempt_ended(",
    ),
    bug(
        "given up at half the acknowledgement timeout",
        DELIVERY,
        "let give_up_at = now.plus_ms(self.settings.ack_timeout_ms).min(offer.deadline);",
        "let patience_ms = self.settings.ack_timeout_ms / if PLANTED { 2 } else { 1 };
         let give_up_at = now.plus_ms(patience_ms).min(offer.deadline);",
    ),
    bug(
        "silence is never given up",
        DELIVERY,
        "if now >= give_up_at { return self.release(now, slot, end); }",
        "if now >= give_up_at && !PLANTED { return self.release(now, slot, end); }",
    ),
    bug(
        "attempts don't count",
        DELIVERY,
        "offer.attempts_left -= 1;",
        "offer.attempts_left -= u8::from(!PLANTED);",
    ),
    bug(
        "a released run is not offered on",
        DELIVERY,
        "self.settle(now, offer.home, offer.ticket, false, offer.attempts_left);",
        "if !PLANTED { self.settle(now, offer.home, offer.ticket, false, offer.attempts_left); }",
    ),
    bug(
        "an ended poll keeps its pool pinned",
        POLLS,
        "fn drop_held(&mut self, poll: &Poll) { self.pools.unpin(poll.pool);",
        "fn drop_held(&mut self, poll: &Poll) { if !PLANTED { self.pools.unpin(poll.pool); }",
    ),
    // Identity.
    bug(
        "generations are ignored",
        "src/broker/conn.rs",
        ".filter(|conn| conn.generation == id.generation &&",
        ".filter(|conn| (conn.generation == id.generation || PLANTED) &&",
    ),
    bug(
        "a late verdict answers the next request",
        DISPATCH,
        "if conn.request != ticket.request {",
        "if conn.request != ticket.request && !PLANTED {",
    ),
    bug(
        "the late end of an old connection takes the newer poll of its runner with it",
        POLLS,
        "self.drop_held(poll);",
        "let twin = self.pools.choose(poll.pool, super::settings::MatchOrder::Newest, |slot| {
             matches!(&self.conns.peek(slot).state, State::Waiting(other)
                 if other.instance == poll.instance && other.since > poll.since)
         });
         if let (true, Some(twin)) = (PLANTED, twin) { self.park(twin); }
         self.drop_held(poll);",
    ),
    // Answers.
    bug(
        "answered twice",
        DISPATCH,
        "self.respond(now, slot, Payload::Static(verdict), false);",
        "self.respond(now, slot, Payload::Static(verdict), false);
         if PLANTED { self.respond(now, slot, Payload::Static(verdict), false); }",
    ),
    bug(
        "the deadline passes unnoticed",
        DISPATCH,
        "self.timers.arm(slot, verdict.deadline);",
        "self.timers.arm(slot, verdict.deadline.plus_ms(if PLANTED { 60_000 } else { 0 }));",
    ),
    bug(
        "a no is not said to another worker",
        DISPATCH,
        "let message = MeshMessage::Reply { ticket, delivered, attempts_left };",
        "if PLANTED && !delivered { return; }
         let message = MeshMessage::Reply { ticket, delivered, attempts_left };",
    ),
    bug(
        "a yes of another worker is taken for a no",
        DISPATCH,
        "verdict.attempts_left = attempts_left; if delivered {",
        "verdict.attempts_left = attempts_left; if delivered && !(PLANTED && conn.side == super::contract::Side::Dispatch) {",
    ),
    bug(
        "an offer is taken after its deadline",
        DISPATCH,
        "let open = self.drain.is_none() && now < offer.deadline",
        "let open = self.drain.is_none() && (now < offer.deadline || PLANTED)",
    ),
    bug(
        "a poll for which there is no room is answered 503",
        POLLS,
        "self.counters.polls_closed += 1; self.close(slot);",
        "self.counters.polls_closed += 1;
         if PLANTED {
             let full = super::http::Rejection::new(503, \"no room\");
             return self.reject(Time::default(), slot, &full, false);
         }
         self.close(slot);",
    ),
    // Matching.
    bug(
        "the guard is ignored",
        DISPATCH,
        "State::Waiting(poll) if now < poll.offer_until),",
        "State::Waiting(poll) if now < poll.offer_until || PLANTED),",
    ),
    bug(
        "a poll of another machine matches",
        "src/broker/contract.rs",
        "memory: fields.key_number(Field::Memory)?,",
        "memory: fields.key_number(if PLANTED { Field::Cpu } else { Field::Memory })?,",
    ),
    bug(
        "the second in line goes first",
        POOL,
        "if may(slot) { return Some(slot); }",
        "if may(slot) && !(PLANTED && list.len() > 1 && Some(slot) == list.back()) { return Some(slot); }",
    ),
    bug("a cordon is not for new polls", POLLS, "if !cordoned {", "if !cordoned || PLANTED {"),
    bug(
        "a lifted cordon lets nobody in",
        LIFECYCLE,
        "self.index(slot); self.arm_poll(slot);",
        "if !PLANTED { self.index(slot); } self.arm_poll(slot);",
    ),
    // Hints.
    bug(
        "the first poll of a key is not announced",
        POLLS,
        "if self.bucket_counts[bucket] == 1 {",
        "if self.bucket_counts[bucket] == 1 && !PLANTED {",
    ),
    bug(
        "a hint is dropped while others wait",
        POLLS,
        "if self.bucket_counts[bucket] == 0 {",
        "if self.bucket_counts[bucket] == 0 || PLANTED {",
    ),
    bug(
        "a hint is never dropped",
        POLLS,
        "self.shared.withdraw(bucket, self.worker);",
        "if !PLANTED { self.shared.withdraw(bucket, self.worker); }",
    ),
    bug(
        "a relation's hint is never dropped",
        WHY,
        "self.shared.withdraw(bucket, self.worker);",
        "if !PLANTED { self.shared.withdraw(bucket, self.worker); }",
    ),
    bug(
        "a poll that ends in its last moments is still counted as ending",
        POLLS,
        "*parked -= 1;",
        "if !PLANTED { *parked -= 1; }",
    ),
    bug(
        "a hint is dropped for all workers",
        "src/workers/hints.rs",
        "self.0.buckets[bucket].fetch_and(!(1 << worker), Ordering::Release);",
        "self.0.buckets[bucket].fetch_and(if PLANTED { 0 } else { !(1 << worker) }, Ordering::Release);",
    ),
    // Time.
    bug(
        "timers round down",
        TIMER,
        "at.0.div_ceil(TICK_US)",
        "if PLANTED { at.0 / TICK_US } else { at.0.div_ceil(TICK_US) }",
    ),
    bug(
        "timers sleep a tick too long",
        TIMER,
        "self.next_tick().map(|tick| Time(tick * TICK_US))",
        "self.next_tick().map(|tick| Time((tick + u64::from(PLANTED)) * TICK_US))",
    ),
    bug(
        "a slot of the wheel is spread too late",
        TIMER,
        "for level in (1..LEVELS).rev() {",
        "for level in (if PLANTED { 2 } else { 1 }..LEVELS).rev() {",
    ),
    bug(
        "an idle connection keeps the timer of its last request",
        REQUESTS,
        "self.timers.arm(slot, now.plus_ms(self.settings.idle_timeout_ms));",
        "if !PLANTED { self.timers.arm(slot, now.plus_ms(self.settings.idle_timeout_ms)); }",
    ),
    // Bytes.
    bug(
        "bytes are lost that come before their time",
        REQUESTS,
        "conn.buffer.extend_from_slice(bytes); let parsing",
        "if !PLANTED { conn.buffer.extend_from_slice(bytes); } let parsing",
    ),
    bug(
        "a paused connection is never read again",
        REQUESTS,
        "conn.paused = false;",
        "conn.paused = false; if PLANTED { return; }",
    ),
    bug(
        "a poll keeps the buffer of its request",
        REQUESTS,
        "if used == buffer.len() { return; }",
        "if used == buffer.len() {
             if PLANTED { self.conns.at(id.slot).buffer = Vec::with_capacity(buffer.len()); }
             return;
         }",
    ),
    // Limits.
    bug(
        "one connection more than allowed",
        "src/workers/hints.rs",
        "Ordering::Relaxed) < connections_max {",
        "Ordering::Relaxed) < connections_max + usize::from(PLANTED) {",
    ),
    bug(
        "who has spoken makes room",
        "src/workers/worker.rs",
        "&& self.engine.has_unread(silent)",
        "&& !PLANTED && self.engine.has_unread(silent)",
    ),
    bug(
        "whoever comes last makes room",
        "src/broker/mod.rs",
        "let Some(slot) = self.silent.front() else { return false };",
        "let Some(slot) = self.silent.front().filter(|_| !PLANTED) else { return false };",
    ),
    bug(
        "one key more than allowed",
        POOL,
        "if self.pools.len() >= self.keys_max &&",
        "if self.pools.len() >= self.keys_max + usize::from(PLANTED) &&",
    ),
    // Ends.
    bug(
        "a refused connection lingers",
        REQUESTS,
        "self.timers.arm(slot, now.plus_ms(self.settings.linger_ms));",
        "self.timers.arm(slot, now.plus_ms(self.settings.linger_ms + if PLANTED { 60_000 } else { 0 }));",
    ),
    bug(
        "the last poll of a drained worker is kept",
        LIFECYCLE,
        "if self.conns.open_count() == 0 {",
        "if self.conns.open_count() == usize::from(PLANTED) {",
    ),
    bug(
        "a connection is never counted out",
        CORE,
        "self.shared.close_connection();",
        "if !PLANTED { self.shared.close_connection(); }",
    ),
    bug(
        "an undelivered run's bytes are counted for ever",
        DELIVERY,
        "self.budget.release(&self.shared, claim.offer.payload.bytes().len());",
        "if !PLANTED { self.budget.release(&self.shared, claim.offer.payload.bytes().len()); }",
    ),
    bug(
        "a run for which there is no room is taken all the same, and never counted out",
        DISPATCH,
        "self.budget.release(&self.shared, payload.bytes().len()); self.counters.refused_bytes += 1;",
        "if !PLANTED { self.budget.release(&self.shared, payload.bytes().len()); } self.counters.refused_bytes += 1;",
    ),
    bug(
        "a closed connection's bytes are counted for ever",
        "src/broker/bounds.rs",
        "if bytes > 0 {",
        "if bytes > 0 && !PLANTED {",
    ),
    bug(
        "a key's bound forgets the polls that are claimed",
        POOL,
        "(self.claimed + self.ending + self.cordoned) as usize",
        "(if PLANTED { 0 } else { self.claimed } + self.ending + self.cordoned) as usize",
    ),
    bug(
        "a drain cuts deliveries off",
        LIFECYCLE,
        "if !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {",
        "if PLANTED || !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {",
    ),
    bug(
        "a drain closes behind an answer that promised more",
        REQUESTS,
        "if between && conn.peer_closed {",
        "if between && (conn.peer_closed || (PLANTED && self.drain.is_some())) {",
    ),
    bug(
        "a drain takes new polls",
        POLLS,
        "if self.drain.is_some() { self.counters.polls_closed += 1;",
        "if self.drain.is_some() && !PLANTED { self.counters.polls_closed += 1;",
    ),
];
