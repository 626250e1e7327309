//! The bugs that the simulation must catch.

use super::planting::Bug;

const fn bug(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Bug {
    Bug { name, file, from, to }
}

const DELIVERY: &str = "src/broker/delivery.rs";
const DISPATCH: &str = "src/broker/dispatch.rs";
const POLLS: &str = "src/broker/polls.rs";
const REQUESTS: &str = "src/broker/requests.rs";
const ACCEPT: &str = "src/broker/accept.rs";
const LIFE: &str = "src/broker/life.rs";
const LIMITS: &str = "src/broker/limits.rs";
const CORDONS: &str = "src/broker/cordons.rs";
const SHUTDOWN: &str = "src/broker/shutdown.rs";
const CONNECTIONS: &str = "src/broker/connections/table.rs";
const TIMER: &str = "src/broker/connections/timer.rs";
const SCHEDULE: &str = "src/broker/connections/shutdown_schedule.rs";
const INDEX: &str = "src/broker/pools/index.rs";
const HINTS: &str = "src/broker/pools/hints.rs";
const POOLS: &str = "src/broker/pools/table.rs";
const POOL: &str = "src/broker/pools/pool.rs";

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
    bug("facts of a dead connection count", DELIVERY, "if !facts.alive {", "if !facts.alive && !PLANTED {"),
    bug(
        "a FIN that came before the bytes counts",
        DELIVERY,
        "let (true, Some(facts)) = (claim.sent, facts) else",
        "let (true, Some(facts)) = (claim.sent || PLANTED, facts) else",
    ),
    bug(
        "a FIN is ignored while claimed",
        LIFE,
        "State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),",
        "State::Claimed(_) if PLANTED => {}
         State::Claimed(_) => self.claimed_peer_closed(now, id.slot, facts),",
    ),
    bug(
        "no probe follows a FIN with bytes unacknowledged",
        DELIVERY,
        "if claim.closing { next = next.min(",
        "if claim.closing && PLANTED { next = Time(u64::MAX); } else if claim.closing { next = next.min(",
    ),
    bug(
        "a FIN is known only from its event",
        DELIVERY,
        "claim.closing |= claim.sent && facts.fin;",
        "claim.closing |= claim.sent && facts.fin && !PLANTED;",
    ),
    // Release.
    bug(
        "released by a close: what is unsent may still arrive",
        DELIVERY,
        "self.abort(slot); self.emit_attempt(",
        "if PLANTED { self.close(slot) } else { self.abort(slot) }; self.emit_attempt(",
    ),
    bug(
        "released at half the acknowledgement timeout",
        DELIVERY,
        "let give_up_at = now.plus_ms(self.settings.ack_timeout_ms).min(offer.deadline);",
        "let patience_ms = self.settings.ack_timeout_ms / if PLANTED { 2 } else { 1 };
         let give_up_at = now.plus_ms(patience_ms).min(offer.deadline);",
    ),
    bug(
        "a silent poll is never released",
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
        "self.reply(now, offer.home, offer.ticket, false, offer.attempts_left);",
        "if !PLANTED { self.reply(now, offer.home, offer.ticket, false, offer.attempts_left); }",
    ),
    bug(
        "an ended poll keeps its pool pinned",
        INDEX,
        "self.pools.unpin(pool); self.nodes.release(node);",
        "if !PLANTED { self.pools.unpin(pool); } self.nodes.release(node);",
    ),
    // Identity.
    bug(
        "generations are ignored",
        CONNECTIONS,
        ".filter(|conn| conn.generation == id.generation &&",
        ".filter(|conn| (conn.generation == id.generation || PLANTED) &&",
    ),
    bug(
        "a late reply answers the next request",
        DISPATCH,
        "if conn.request != ticket.request {",
        "if conn.request != ticket.request && !PLANTED {",
    ),
    bug(
        "the late end of an old connection parks the newer poll of its runner",
        POLLS,
        "self.index.release(poll.pool, poll.node, poll.deployment);",
        "let twin = self.index.choose(poll.pool, super::settings::MatchOrder::Newest, |slot| {
             matches!(&self.connections.get(slot).state, State::Waiting(other)
                 if other.node == poll.node && other.since > poll.since)
         });
         if let (true, Some(twin)) = (PLANTED, twin) { self.set_poll_state(twin, PollState::Parked); }
         self.index.release(poll.pool, poll.node, poll.deployment);",
    ),
    // Answers.
    bug(
        "answered twice",
        DISPATCH,
        "self.respond(now, slot, Payload::Static(answer), false);",
        "self.respond(now, slot, Payload::Static(answer), false);
         if PLANTED { self.respond(now, slot, Payload::Static(answer), false); }",
    ),
    bug(
        "the deadline passes unnoticed",
        DISPATCH,
        "self.connections.arm(slot, pending.deadline);",
        "self.connections.arm(slot, pending.deadline.plus_ms(if PLANTED { 60_000 } else { 0 }));",
    ),
    bug(
        "an undelivered offer is not replied to another worker",
        DISPATCH,
        "let message = MeshMessage::Reply { ticket, delivered, attempts_left };",
        "if PLANTED && !delivered { return; }
         let message = MeshMessage::Reply { ticket, delivered, attempts_left };",
    ),
    bug(
        "a delivered reply of another worker counts as undelivered",
        DISPATCH,
        "pending.attempts_left = attempts_left; if delivered {",
        "pending.attempts_left = attempts_left; if delivered && !(PLANTED && conn.side == super::contract::Side::Dispatch) {",
    ),
    bug(
        "an offer is accepted after its deadline",
        DISPATCH,
        "let open = self.shutdown.is_none() && now < offer.deadline",
        "let open = self.shutdown.is_none() && (now < offer.deadline || PLANTED)",
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
        "a poll of another machine size matches",
        "src/broker/contract/poll.rs",
        "memory: fields.key_number(Field::Memory)?,",
        "memory: fields.key_number(if PLANTED { Field::Cpu } else { Field::Memory })?,",
    ),
    bug(
        "the second in line goes first",
        POOLS,
        "if may(slot) { return Some(slot); }",
        "if may(slot) && !(PLANTED && list.len() > 1 && Some(slot) == list.back()) { return Some(slot); }",
    ),
    bug(
        "a cordon is not for new polls",
        POLLS,
        "match self.cordons.covers(key.deployment, node) {",
        "match self.cordons.covers(key.deployment, node) && !PLANTED {",
    ),
    bug(
        "an uncordon makes no poll matchable",
        CORDONS,
        "self.set_poll_state(slot, PollState::Matchable);",
        "if !PLANTED { self.set_poll_state(slot, PollState::Matchable); }",
    ),
    // Hints.
    bug(
        "the first poll of a key is not announced",
        HINTS,
        "if self.counts[bucket] == 1 {",
        "if self.counts[bucket] == 1 && !PLANTED {",
    ),
    bug(
        "a hint is dropped while others wait",
        HINTS,
        "if self.counts[bucket] == 0 {",
        "if self.counts[bucket] == 0 || PLANTED {",
    ),
    bug(
        "a hint is never dropped",
        HINTS,
        "shared.withdraw(bucket, self.worker);",
        "if !PLANTED { shared.withdraw(bucket, self.worker); }",
    ),
    bug(
        "a relation's hint is never dropped",
        INDEX,
        "let bucket = relation_bucket(shared, self.pools.get(pool), relation); self.hints.remove(shared, bucket);",
        "let bucket = relation_bucket(shared, self.pools.get(pool), relation); self.hints.remove(shared, bucket);
         if PLANTED { shared.announce(bucket, self.worker); }",
    ),
    bug(
        "a parked poll that ends is still counted as parked",
        INDEX,
        "self.pools.get_mut(pool).parked -= 1;",
        "if !PLANTED { self.pools.get_mut(pool).parked -= 1; }",
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
        "timers fire a tick too late",
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
        "self.connections.arm(slot, now.plus_ms(self.settings.idle_timeout_ms));",
        "if !PLANTED { self.connections.arm(slot, now.plus_ms(self.settings.idle_timeout_ms)); }",
    ),
    // Bytes.
    bug(
        "early bytes are lost",
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
             if PLANTED { self.connections.get_mut(id.slot).buffer = Vec::with_capacity(buffer.len()); }
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
        "a connection with unread bytes makes room",
        "src/workers/worker.rs",
        "&& self.engine.has_unread(silent)",
        "&& !PLANTED && self.engine.has_unread(silent)",
    ),
    bug(
        "the new connection makes room",
        ACCEPT,
        "let Some(slot) = self.connections.oldest_silent() else { return false };",
        "let Some(slot) = self.connections.oldest_silent().filter(|_| !PLANTED) else { return false };",
    ),
    bug(
        "one key more than allowed",
        POOLS,
        "if self.pools.len() >= self.keys_max &&",
        "if self.pools.len() >= self.keys_max + usize::from(PLANTED) &&",
    ),
    // Ends.
    bug(
        "a refused connection lingers",
        LIFE,
        "self.connections.arm(slot, now.plus_ms(self.settings.linger_ms));",
        "self.connections.arm(slot, now.plus_ms(self.settings.linger_ms + if PLANTED { 60_000 } else { 0 }));",
    ),
    bug(
        "a shutdown keeps the last connection",
        SCHEDULE,
        "if open_connections == 0 { self.is_complete",
        "if open_connections == usize::from(PLANTED) { self.is_complete",
    ),
    bug(
        "a connection is never uncounted",
        ACCEPT,
        "self.shared.close_connection();",
        "if !PLANTED { self.shared.close_connection(); }",
    ),
    bug(
        "an undelivered run's bytes stay counted",
        DELIVERY,
        "self.budget.release(&self.shared, claim.offer.payload.bytes().len());",
        "if !PLANTED { self.budget.release(&self.shared, claim.offer.payload.bytes().len()); }",
    ),
    bug(
        "the bytes of a run for which there is no room stay counted",
        DISPATCH,
        "self.budget.release(&self.shared, payload.bytes().len()); self.counters.refused_bytes += 1;",
        "if !PLANTED { self.budget.release(&self.shared, payload.bytes().len()); } self.counters.refused_bytes += 1;",
    ),
    bug(
        "a closed connection's bytes stay counted",
        LIMITS,
        "if bytes > 0 {",
        "if bytes > 0 && !PLANTED {",
    ),
    bug(
        "a key's limit ignores claimed polls",
        POOL,
        "(self.claimed + self.parked + self.cordoned) as usize",
        "(if PLANTED { 0 } else { self.claimed } + self.parked + self.cordoned) as usize",
    ),
    bug(
        "a shutdown cuts deliveries off",
        SHUTDOWN,
        "if !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {",
        "if PLANTED || !matches!(state, State::Claimed(_) | State::Dispatch(_) | State::Writing { .. }) {",
    ),
    bug(
        "a shutdown closes after an answer that did not announce it",
        REQUESTS,
        "if between && conn.peer_closed {",
        "if between && (conn.peer_closed || (PLANTED && self.shutdown.is_some())) {",
    ),
    bug(
        "a shutdown holds new polls",
        POLLS,
        "if self.shutdown.is_some() { self.counters.polls_closed += 1;",
        "if self.shutdown.is_some() && !PLANTED { self.counters.polls_closed += 1;",
    ),
];
