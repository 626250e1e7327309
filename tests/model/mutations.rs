//! The bugs that the model check must catch, and by which test.

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
const SLEEPER: &str = "mail::the_sleeper_or_the_sender_sees_the_other";
const VISIT: &str = "handover::a_sleeper_is_woken_for_what_it_would_oversleep_only";
const OFFER: &str = "handover::an_offer_is_neither_lost_nor_doubled";

pub const MUTATIONS: &[(Bug, &str)] = &[
    bug(
        "the sender looks before it sends",
        MESH,
        "if self.queue.send(mail).is_err() { return false; }",
        "let early = self.armed.load(Ordering::Relaxed);
         if self.queue.send(mail).is_err() || (PLANTED && !early) { return false; }",
        SLEEPER,
    ),
    bug(
        "the sender has no fence",
        MESH,
        "return false; } fence(Ordering::SeqCst);",
        "return false; } if !PLANTED { fence(Ordering::SeqCst); }",
        SLEEPER,
    ),
    bug(
        "the sleeper has no fence",
        MESH,
        "self.armed.store(true, Ordering::Relaxed); fence(Ordering::SeqCst);",
        "self.armed.store(true, Ordering::Relaxed); if !PLANTED { fence(Ordering::SeqCst); }",
        SLEEPER,
    ),
    bug(
        "the sleeper looks before it arms",
        MESH,
        "self.armed.store(true, Ordering::Relaxed);",
        "if PLANTED {
             let empty = self.queue.is_empty();
             self.armed.store(true, Ordering::Relaxed);
             return empty;
         }
         self.armed.store(true, Ordering::Relaxed);",
        SLEEPER,
    ),
    bug(
        "the sleeper does not look again",
        MESH,
        "if self.queue.is_empty() {",
        "if PLANTED || self.queue.is_empty() {",
        SLEEPER,
    ),
    bug(
        "every sender wakes",
        MESH,
        "pub fn wake(&self) {",
        "pub fn wake(&self) {
             if PLANTED { return self.waker.wake(); }",
        "mail::a_burst_needs_no_room_and_one_wake_up",
    ),
    bug(
        "a sleeper is disarmed and not woken",
        MESH,
        "Ordering::Relaxed).is_ok() {",
        "Ordering::Relaxed).is_ok() && !PLANTED {",
        SLEEPER,
    ),
    bug(
        "the worker sleeps although there is mail",
        WORKER,
        "if self.mailbox.arm() {",
        "if self.mailbox.arm() || PLANTED {",
        WAKE_UP,
    ),
    bug(
        "the worker disarms before it sleeps",
        WORKER,
        "self.engine.wait(timeout)?;",
        "if PLANTED { self.mailbox.disarm(); } self.engine.wait(timeout)?;",
        WAKE_UP,
    ),
    bug(
        "who finds the door shut goes away",
        MESH,
        "if self.post(mail) && !self.visit() {",
        "if self.post(mail) && !self.visit() && !PLANTED {",
        OFFER,
    ),
    bug(
        "a visitor leaves the mail",
        WORKER,
        "self.begin_turn(now); self.mail(now); self.facts(now); let due",
        "self.begin_turn(now); if !PLANTED { self.mail(now); } self.facts(now); let due",
        VISIT,
    ),
    bug(
        "a visitor leaves what its mail led to",
        WORKER,
        "self.facts(now); let due",
        "if !PLANTED { self.facts(now); } let due",
        VISIT,
    ),
    bug(
        "a visitor lets the sleeper oversleep",
        WORKER,
        "if oversleeps ||",
        "if oversleeps && !PLANTED ||",
        VISIT,
    ),
    bug(
        "the door is shut while its owner sleeps",
        EVENT_LOOP,
        "if self.handled_inline {",
        "if self.handled_inline && !PLANTED {",
        VISIT,
    ),
    bug(
        "a message to another peer is sent twice",
        WORKER,
        "Output::Mesh { to, message } =>",
        "Output::Mesh { to, message } if PLANTED => {
             for message in [message.clone(), message] {
                 self.peers[to].deliver(Mail::Mesh { from: self.peer, message });
             }
         }
         Output::Mesh { to, message } =>",
        OFFER,
    ),
    bug(
        "a message to another peer is lost",
        WORKER,
        "Mail::Mesh { from, message } => self",
        "Mail::Mesh { .. } if PLANTED => {}
         Mail::Mesh { from, message } => self",
        OFFER,
    ),
    bug(
        "announcing is a load and a store",
        HINTS,
        "self.0.buckets[bucket].fetch_or(1 << peer, Ordering::Release);",
        "if PLANTED {
             let peers = self.0.buckets[bucket].load(Ordering::Acquire);
             return self.0.buckets[bucket].store(peers | 1 << peer, Ordering::Release);
         }
         self.0.buckets[bucket].fetch_or(1 << peer, Ordering::Release);",
        "table::one_core_s_hint_is_not_another_s_to_change",
    ),
    bug(
        "withdrawing clears the bucket",
        HINTS,
        "fetch_and(!(1 << peer), Ordering::Release)",
        "fetch_and(if PLANTED { 0 } else { !(1 << peer) }, Ordering::Release)",
        "table::one_core_s_hint_is_not_another_s_to_change",
    ),
    bug(
        "the limit is looked at, then counted against",
        HINTS,
        "if self.0.connections.fetch_add(1, Ordering::Relaxed) < connections_max {",
        "if PLANTED {
             let room = self.0.connections.load(Ordering::Relaxed) < connections_max;
             self.0.connections.fetch_add(usize::from(room), Ordering::Relaxed);
             return room;
         }
         if self.0.connections.fetch_add(1, Ordering::Relaxed) < connections_max {",
        "table::the_connection_limit_holds_for_all_cores_together",
    ),
    bug(
        "a refused connection stays counted",
        HINTS,
        "self.0.connections.fetch_sub(1, Ordering::Relaxed); false",
        "self.0.connections.fetch_sub(usize::from(!PLANTED), Ordering::Relaxed); false",
        "table::the_connection_limit_holds_for_all_cores_together",
    ),
];
