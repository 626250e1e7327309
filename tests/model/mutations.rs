//! The bugs that the model check must catch, each with the test that catches it.

use crate::planting::Bug;

const fn bug(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> (Bug, &'static str) {
    (Bug { name, file, from, to }, test)
}

const MESH: &str = "src/workers/mesh.rs";
const HINTS: &str = "src/workers/hints.rs";
const EVENT_LOOP: &str = "src/workers/event_loop.rs";
const WORKER: &str = "src/workers/worker.rs";

const WAKE_UP: &str = "mail::no_wake_up_is_lost";
const RECEIVER: &str = "mail::the_receiver_or_the_sender_sees_the_other";
const INLINE: &str = "handover::inline_handling_wakes_a_worker_only_for_an_earlier_deadline";
const OFFER: &str = "handover::an_offer_is_neither_lost_nor_doubled";

pub const MUTATIONS: &[(Bug, &str)] = &[
    bug(
        "the sender checks before it sends",
        MESH,
        "if self.queue.send(mail).is_err() { return false; }",
        "let early = self.armed.load(Ordering::Relaxed);
         if self.queue.send(mail).is_err() || (PLANTED && !early) { return false; }",
        RECEIVER,
    ),
    bug(
        "the sender has no fence",
        MESH,
        "return false; } fence(Ordering::SeqCst);",
        "return false; } if !PLANTED { fence(Ordering::SeqCst); }",
        RECEIVER,
    ),
    bug(
        "the receiver has no fence",
        MESH,
        "self.armed.store(true, Ordering::Relaxed); fence(Ordering::SeqCst);",
        "self.armed.store(true, Ordering::Relaxed); if !PLANTED { fence(Ordering::SeqCst); }",
        RECEIVER,
    ),
    bug(
        "the receiver checks before it arms",
        MESH,
        "self.armed.store(true, Ordering::Relaxed);",
        "if PLANTED {
             let empty = self.queue.is_empty();
             self.armed.store(true, Ordering::Relaxed);
             return empty;
         }
         self.armed.store(true, Ordering::Relaxed);",
        RECEIVER,
    ),
    bug(
        "the receiver does not check again",
        MESH,
        "if self.queue.is_empty() {",
        "if PLANTED || self.queue.is_empty() {",
        RECEIVER,
    ),
    bug(
        "every sender wakes",
        MESH,
        "pub fn wake(&self) {",
        "pub fn wake(&self) {
             if PLANTED { return self.waker.wake(); }",
        "mail::a_burst_causes_one_wake_up",
    ),
    bug(
        "a receiver is disarmed and not woken",
        MESH,
        "Ordering::Relaxed).is_ok() {",
        "Ordering::Relaxed).is_ok() && !PLANTED {",
        RECEIVER,
    ),
    bug(
        "the worker blocks although there is mail",
        WORKER,
        "if self.mailbox.arm() {",
        "if self.mailbox.arm() || PLANTED {",
        WAKE_UP,
    ),
    bug(
        "the worker disarms before it blocks",
        WORKER,
        "self.engine.wait(timeout)?;",
        "if PLANTED { self.mailbox.disarm(); } self.engine.wait(timeout)?;",
        WAKE_UP,
    ),
    bug(
        "a sender that cannot handle mail inline does not wake",
        MESH,
        "if self.post(mail) && !self.handle_inline() {",
        "if self.post(mail) && !self.handle_inline() && !PLANTED {",
        OFFER,
    ),
    bug(
        "inline handling leaves the mail",
        WORKER,
        "self.begin_turn(now); self.mail(now); self.facts(now); let due",
        "self.begin_turn(now); if !PLANTED { self.mail(now); } self.facts(now); let due",
        INLINE,
    ),
    bug(
        "inline handling leaves the facts that its mail led to",
        WORKER,
        "self.facts(now); let due",
        "if !PLANTED { self.facts(now); } let due",
        INLINE,
    ),
    bug(
        "inline handling does not wake for an earlier deadline",
        WORKER,
        "if wakes_too_late ||",
        "if wakes_too_late && !PLANTED ||",
        INLINE,
    ),
    bug(
        "a worker keeps its lock while it blocks",
        EVENT_LOOP,
        "if self.handled_inline {",
        "if self.handled_inline && !PLANTED {",
        INLINE,
    ),
    bug(
        "a message to another worker is sent twice",
        WORKER,
        "Output::Mesh { to, message } =>",
        "Output::Mesh { to, message } if PLANTED => {
             for message in [message.clone(), message] {
                 self.peers[to].deliver(Mail::Mesh { from: self.index, message });
             }
         }
         Output::Mesh { to, message } =>",
        OFFER,
    ),
    bug(
        "a message to another worker is lost",
        WORKER,
        "Mail::Mesh { from, message } => self",
        "Mail::Mesh { .. } if PLANTED => {}
         Mail::Mesh { from, message } => self",
        OFFER,
    ),
    bug(
        "announcing is a load and a store",
        HINTS,
        "self.0.buckets[bucket].fetch_or(1 << worker, Ordering::Release);",
        "if PLANTED {
             let workers = self.0.buckets[bucket].load(Ordering::Acquire);
             return self.0.buckets[bucket].store(workers | 1 << worker, Ordering::Release);
         }
         self.0.buckets[bucket].fetch_or(1 << worker, Ordering::Release);",
        "table::a_worker_changes_only_its_own_hint",
    ),
    bug(
        "withdrawing clears the bucket",
        HINTS,
        "fetch_and(!(1 << worker), Ordering::Release)",
        "fetch_and(if PLANTED { 0 } else { !(1 << worker) }, Ordering::Release)",
        "table::a_worker_changes_only_its_own_hint",
    ),
    bug(
        "the limit is checked before the connection is counted",
        HINTS,
        "if self.0.connections.fetch_add(1, Ordering::Relaxed) < connections_max {",
        "if PLANTED {
             let room = self.0.connections.load(Ordering::Relaxed) < connections_max;
             self.0.connections.fetch_add(usize::from(room), Ordering::Relaxed);
             return room;
         }
         if self.0.connections.fetch_add(1, Ordering::Relaxed) < connections_max {",
        "table::the_connection_limit_holds_for_all_workers_together",
    ),
    bug(
        "a refused connection stays counted",
        HINTS,
        "self.0.connections.fetch_sub(1, Ordering::Relaxed); false",
        "self.0.connections.fetch_sub(usize::from(!PLANTED), Ordering::Relaxed); false",
        "table::the_connection_limit_holds_for_all_workers_together",
    ),
];
